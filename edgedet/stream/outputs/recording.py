"""Record cameras in segments that stay playable. Sinks as in ``sinks``.

Drawing and encoding take place in a thread for each camera, with little priority. Where that cannot follow, pictures
are left out of the recording and counted; the detector does not wait. Where drawing or encoding fails, the recording
goes on in a new file.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Deque, Dict, Iterator, Optional, Tuple

import numpy as np

from ...errors import EdgeDetError, InputError, in_one_line
from ...files import sync_to_disk
from ...progress import Say, say_nothing
from ...types import Frame, FrameResult, Gap
from ..overlap import lower_priority
from .segments import Keeper
from .sinks import LONGEST_CLOSE_S, Annotate, Write, compute_utc
from .video_file import open_video_file, prepare_folder

SEGMENT_S = 60.0  # of a file; a killed process or a lost power supply costs the open one its end
RECORDING_FPS = 10.0  # each frame that the detector skipped is encoded again, so a camera's own rate costs much
_PRUNE_EVERY_S = 2.0
_ROUNDING = 1e-6  # of a frame: (100.1 - 100.0) * 10 is a little less than 1
_WAITING = 4  # results a camera that may wait for its encoder; each holds a picture
_LONGEST_LAG_S = 3.0  # that a result may wait: then what waits is left out, and a new file begins with what is new
_NEEDED = 0.5  # of the time between two pictures of the recording: a result that comes sooner changes nothing
_MOST_FAILURES = 3  # in succession, without a picture that was written between them


@dataclass
class _Segment:
    """An open file: its first frame's time, size, number of pictures written, and the last one."""

    started_s: float
    size_wh: Tuple[int, int]
    write: Callable[[np.ndarray], None]
    held: ExitStack
    written: int = 0
    last: Optional[np.ndarray] = None


@contextmanager
def recording_sink(
    base_of: Callable[[str], Path],
    fps: Callable[[], float],
    segment_s: float,
    keeper: Keeper,
    annotate: Annotate,
    left_out: Callable[[str], None] = lambda camera: None,
    say: Say = say_nothing,
) -> Iterator[Write]:
    """Write each camera's frames into segments of ``segment_s`` seconds, named ``base_of(camera)`` with their time.

    A frame is repeated until the next one came, so that a segment lasts as long as what it shows. A gap, or a new size
    of the picture, begins a new segment: no picture stands for a time in which there was none.

    fps:      pictures a second, asked when a camera's first frame is there.
    left_out: called with the camera's name for each result that found no room or failed.
    say:      called with a line where a result failed, and where a file could not be finished in time.
    An error of a camera's file is raised by the next result that is written, or at the end; so is the last one of
    _MOST_FAILURES failures in succession.
    """
    recorders: Dict[str, _Recorder] = {}

    def write(result: FrameResult) -> None:
        camera = result.frame.camera
        if camera not in recorders:
            recorders[camera] = _Recorder(base_of(camera), fps(), segment_s, keeper, annotate, left_out, say)
        if not recorders[camera].put(result):
            left_out(camera)

    try:
        yield write
    finally:  # also after an error elsewhere: the pictures so far are worth keeping
        for recorder in recorders.values():
            recorder.ask_to_end()
        until_s = time.monotonic() + LONGEST_CLOSE_S  # for all of them together
        with ExitStack() as held:
            held.callback(keeper.prune)
            for recorder in recorders.values():
                held.callback(recorder.end, until_s)


def _sync_if_there(path: Path) -> None:
    with suppress(OSError):  # it was not written after all
        sync_to_disk(path)


class _Recorder:
    """One camera's thread and what waits for it."""

    def __init__(
        self,
        base: Path,
        fps: float,
        segment_s: float,
        keeper: Keeper,
        annotate: Annotate,
        left_out: Callable[[str], None],
        say: Say,
    ) -> None:
        self._base, self._fps, self._segment_s = base, fps, segment_s
        self._keeper, self._annotate = keeper, annotate
        self._left_out, self._say = left_out, say
        keeper.prune()
        prepare_folder(base)  # what can be told at once is told by the first result, not by a later one
        self._segment: Optional[_Segment] = None
        self._pruned_s = -_PRUNE_EVERY_S
        self._failures = 0  # in succession
        self._news = threading.Condition()
        # Guarded by ``_news``:
        self._waiting: Deque[Tuple[float, FrameResult]] = deque()  # with the time at which it came
        self._taken_s = -np.inf  # capture time of the last result that was taken
        self._gap: Optional[Gap] = None  # of a result that found no room
        self._ending = False
        self._error: Optional[EdgeDetError] = None
        self._thread = threading.Thread(target=self._run, name=f"recording {base.stem}", daemon=True)
        self._thread.start()

    def put(self, result: FrameResult) -> bool:
        """Take a result; False where there is no room. Raises the error that ended the thread."""
        frame = result.frame
        with self._news:
            self._raise()
            gap = frame.gap or self._gap
            if not gap and frame.captured_s - self._taken_s < _NEEDED / self._fps:
                return True
            lag_s = time.monotonic() - self._waiting[0][0] if self._waiting else 0.0
            if lag_s > _LONGEST_LAG_S:
                # To fill up the time of what was left out is work, too: without a gap it would stay behind for ever.
                for _, late in self._waiting:
                    self._left_out(late.frame.camera)
                self._waiting.clear()
                gap = gap or Gap("the recording was too slow", lag_s)
            if len(self._waiting) >= _WAITING:
                self._gap = gap
                return False
            if gap and not frame.gap:
                result = replace(result, frame=replace(frame, gap=gap))
            self._gap = None
            self._taken_s = frame.captured_s
            self._waiting.append((time.monotonic(), result))
            self._news.notify_all()
            return True

    def ask_to_end(self) -> None:
        """Let the thread end after what waits."""
        with self._news:
            self._ending = True
            self._news.notify_all()

    def end(self, until_s: float) -> None:
        """Wait for the thread; raises the error that ended it, if that was not raised yet."""
        self._thread.join(max(0.0, until_s - time.monotonic()))
        if self._thread.is_alive():
            self._say(
                f"the recording {self._base.stem} was not finished within {LONGEST_CLOSE_S:g} s: its end is missing"
            )
        with self._news:
            self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        lower_priority()
        try:
            try:
                while True:
                    with self._news:
                        self._news.wait_for(lambda: self._waiting or self._ending)
                        if not self._waiting:
                            return
                        _, result = self._waiting.popleft()
                    self._write_or_go_on(result)
            finally:
                self._end_segment()
        except EdgeDetError as error:
            with self._news:
                self._error = error

    def _write_or_go_on(self, result: FrameResult) -> None:
        """Write a result; where that fails, and not because of the disk, begin a new file with the next one."""
        try:
            self._write(result)
            self._failures = 0
        except EdgeDetError:
            raise
        except Exception as error:  # of OpenCV or the encoder, which raise what they like
            self._failures += 1
            self._left_out(result.frame.camera)
            with suppress(Exception):  # the same error once more; what was written before may play
                self._end_segment()
            failure = f"recording {self._base.stem}: {in_one_line(error)}"
            if self._failures >= _MOST_FAILURES:
                raise InputError(
                    f"{failure}; {self._failures} times in succession. Choose another file type."
                ) from error
            self._say(f"{failure}; going on in a new file")

    def _write(self, result: FrameResult) -> None:
        frame = result.frame
        picture = self._annotate(result)
        size_wh = (picture.shape[1], picture.shape[0])
        segment = self._segment
        if segment is not None and frame.gap:
            self._end_segment()
        elif segment is not None and (
            segment.size_wh != size_wh or frame.captured_s - segment.started_s >= self._segment_s
        ):
            self._fill(segment, frame.captured_s)
            self._end_segment()
        if time.monotonic() - self._pruned_s > _PRUNE_EVERY_S:
            self._keeper.prune()
            self._pruned_s = time.monotonic()
        segment = self._segment = self._segment or self._begin(frame, size_wh)
        self._fill(segment, frame.captured_s)
        segment.last = picture
        if segment.written < self._due(segment, frame.captured_s):
            segment.write(picture)
            segment.written += 1

    def _due(self, segment: _Segment, captured_s: float) -> int:
        """Return how many pictures a segment has once the one of a frame is in it."""
        return int((captured_s - segment.started_s) * self._fps + _ROUNDING) + 1

    def _fill(self, segment: _Segment, captured_s: float) -> None:
        """Repeat the last picture up to the place of a frame that was captured later."""
        if segment.last is not None:
            for _ in range(segment.written, self._due(segment, captured_s) - 1):
                segment.write(segment.last)
                segment.written += 1

    def _begin(self, frame: Frame, size_wh: Tuple[int, int]) -> _Segment:
        path = self._keeper.new(self._base, compute_utc(frame))
        held = ExitStack()
        held.callback(self._keeper.done, path)
        try:
            held.callback(_sync_if_there, path)
            write_picture = held.enter_context(open_video_file(path, self._fps, size_wh, grows=True))
        except BaseException:
            held.close()
            raise
        return _Segment(frame.captured_s, size_wh, write_picture, held)

    def _end_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.held.close()
