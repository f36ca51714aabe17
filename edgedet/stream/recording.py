"""Record cameras in segments that stay playable. Knows no source and no model; sinks as in ``sinks``."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, Tuple

import numpy as np

from ..types import Frame, FrameResult
from .segments import Keeper
from .sinks import Annotate, Write, utc_of
from .video_file import video_file

SEGMENT_S = 60.0  # at most so much is lost when the power is
RECORDING_FPS = 10.0  # each frame that the detector skipped is encoded again, so a camera's own rate costs much
_PRUNE_EVERY_S = 2.0
_ROUNDING = 1e-6  # of a frame: (100.1 - 100.0) * 10 is a little less than 1


@dataclass
class _Segment:
    """An open file: its first frame's time, size and number of pictures written."""

    started_s: float
    size_wh: Tuple[int, int]
    write: Callable[[np.ndarray], None]
    held: ExitStack
    written: int = 0


@contextmanager
def recording_sink(
    base_of: Callable[[str], Path], fps: float, segment_s: float, keeper: Keeper, annotate: Annotate
) -> Iterator[Write]:
    """Write each camera's frames into segments of ``segment_s`` seconds, named ``base_of(camera)`` with their time.

    A frame is repeated until the next one came, so that a segment lasts as long as what it shows. A gap, or a new size
    of the picture, begins a new segment: no picture stands for a time in which there was none.
    """
    open_segments: Dict[str, _Segment] = {}
    pruned_s = -_PRUNE_EVERY_S

    def begin(frame: Frame, size_wh: Tuple[int, int]) -> _Segment:
        path = keeper.new(base_of(frame.camera), utc_of(frame))
        held = ExitStack()
        held.callback(keeper.done, path)
        try:
            write_picture = held.enter_context(video_file(path, fps, size_wh, grows=True))
        except BaseException:
            held.close()
            raise
        return _Segment(frame.captured_s, size_wh, write_picture, held)

    def write(result: FrameResult) -> None:
        nonlocal pruned_s
        frame = result.frame
        picture = annotate(result)
        size_wh = (picture.shape[1], picture.shape[0])
        segment = open_segments.get(frame.camera)
        if segment is not None and (
            frame.gap or segment.size_wh != size_wh or frame.captured_s - segment.started_s >= segment_s
        ):
            open_segments.pop(frame.camera).held.close()
            segment = None
        if time.monotonic() - pruned_s > _PRUNE_EVERY_S:
            keeper.prune()
            pruned_s = time.monotonic()
        if segment is None:
            segment = open_segments[frame.camera] = begin(frame, size_wh)
        due = int((frame.captured_s - segment.started_s) * fps + _ROUNDING) + 1
        for _ in range(segment.written, due):
            segment.write(picture)
            segment.written += 1

    try:
        yield write
    finally:  # also after an error elsewhere: the pictures so far are worth keeping
        with ExitStack() as held:
            for segment in open_segments.values():
                held.callback(segment.held.close)
        keeper.prune()
