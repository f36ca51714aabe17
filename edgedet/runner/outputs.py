"""The outputs of a run: pictures and videos with boxes, JSON lines, a window, systemd's watchdog."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, ContextManager, List, Optional, Sequence

import numpy as np

from ..errors import InputError
from ..progress import Say
from ..stream.cameras.address import make_file_stem
from ..stream.file_sources import ImageSource
from ..stream.images import IMAGE_SUFFIXES
from ..stream.outputs.draw import draw
from ..stream.outputs.jsonl import jsonl_sink
from ..stream.outputs.notify import notify_address, notify_sink
from ..stream.outputs.recording import RECORDING_FPS, SEGMENT_S, recording_sink
from ..stream.outputs.segments import Keeper
from ..stream.outputs.sinks import Annotate, Write, image_sink, keep_trying, video_sink, window_sink
from ..stream.outputs.video_file import CODECS, MIN_FREE_BYTES, choose_codec, choose_recording_suffix
from ..stream.sources import Source
from ..stream.stop import Stop
from ..types import FrameResult

if TYPE_CHECKING:
    from ..events.mqtt_options import MqttOptions
    from ..events.sink import EventOptions, Publisher


@dataclass(frozen=True)
class OutputOptions:
    """Where results go.

    save:       file or folder for pictures with boxes; a folder's name may end in a separator.
    jsonl:      file for the detections, one JSON line a frame.
    show:       show frames in a window.
    segment_s:  seconds of a recording's file; ``save_fps``: its frames a second at most. Both of cameras only.
    keep_bytes: of cameras' outputs; the oldest files beyond are removed. None: all are kept.
    go_on:      go on without an output that fails, such as on a full disk.
    events:     where events go and what makes one; None: there are none.
    mqtt:       the broker that is told of events; None: nobody is.
    """

    save: Optional[str] = None
    jsonl: Optional[Path] = None
    show: bool = False
    segment_s: float = SEGMENT_S
    save_fps: float = RECORDING_FPS
    keep_bytes: Optional[int] = None
    go_on: bool = False
    events: Optional[EventOptions] = None
    mqtt: Optional[MqttOptions] = None


def check_save(save: Optional[str], source: Source) -> None:
    """Raise InputError where the file or folder to save to does not fit the source, or would overwrite it."""
    if save is None:
        return
    path = Path(save)
    if isinstance(source, ImageSource):
        one_file = len(source.paths) == 1 and path.suffix.lower() in IMAGE_SUFFIXES
        if not (_is_folder(save) or one_file):
            raise InputError(f"images are saved into a folder: wanted --save DIR, got {save}.")
        same = source.root if _is_folder(save) else source.paths[0]
    elif source.live and _is_folder(save):
        return
    else:
        if _is_folder(save) or path.suffix.lower() not in CODECS:
            form = "--save NAME.mp4 or --save DIR" if source.live else "--save NAME.mp4"
            raise InputError(f"video is saved as {', '.join(CODECS)}: wanted {form}, got {save}.")
        choose_codec(path.suffix.lower())
        same = Path(source.name)
    if path.exists() and same.exists() and path.samefile(same):
        raise InputError(f"--save {save} would overwrite its own input: choose another name.")


def _is_folder(save: str) -> bool:
    return save.endswith(os.sep) or not Path(save).suffix or Path(save).is_dir()


def open_outputs(
    options: OutputOptions,
    source: Source,
    class_names: Sequence[str],
    stop: Stop,
    page: Optional[ContextManager[Write]],
    say: Say,
    failures: List[str],
    publisher: Optional[Publisher] = None,
) -> List[ContextManager[Write]]:
    """Return the sinks that the options ask for, in the order in which they are called.

    page:     the sink of the live page; None without one.
    failures: takes a line for each output that failed where the user chose to go on.
    publisher: is told of events.
    """
    keeper = Keeper(options.keep_bytes, MIN_FREE_BYTES)

    def annotate(result: FrameResult) -> np.ndarray:
        return draw(result.frame.bgr, result.detections, tuple(class_names))

    def open_tolerantly(open_sink: Callable[[], ContextManager[Write]]) -> ContextManager[Write]:
        return keep_trying(open_sink, say, failures) if options.go_on else open_sink()

    sinks: List[ContextManager[Write]] = []
    if options.show:
        sinks.append(window_sink(annotate, isinstance(source, ImageSource), stop))
    if page is not None:
        sinks.append(page)
    save, jsonl = options.save, options.jsonl
    if save is not None:
        path = save  # for the closure's type
        sinks.append(open_tolerantly(lambda: _save_sink(path, options, source, keeper, annotate, say)))
    if jsonl is not None:
        file = jsonl
        sinks.append(open_tolerantly(lambda: jsonl_sink(file, tuple(class_names), source.live, keeper)))
    events = options.events
    if events is not None:
        from ..events.sink import events_sink

        rules = events
        sinks.append(open_tolerantly(lambda: events_sink(rules, tuple(class_names), source.live, publisher, say)))
    manager = notify_address()
    if manager is not None:
        sinks.append(notify_sink(manager))  # last: a result counts once it is written
    return sinks


def _save_sink(
    save: str, options: OutputOptions, source: Source, keeper: Keeper, annotate: Annotate, say: Say
) -> ContextManager[Write]:
    path = Path(save)
    if isinstance(source, ImageSource):
        if not _is_folder(save):
            return image_sink(lambda name: path, annotate)
        root = source.root
        return image_sink(lambda name: path / Path(name).relative_to(root), annotate)
    if not source.live:
        return video_sink(path, _fps_of(source), annotate)
    suffix = choose_recording_suffix() if _is_folder(save) else path.suffix
    several = len(source.stats()) > 1

    def base_of(camera: str) -> Path:
        if _is_folder(save):
            return path / f"{make_file_stem(camera)}{suffix}"
        return path.with_name(f"{path.stem}-{make_file_stem(camera)}{suffix}") if several else path

    def fps() -> float:  # a camera names its rate once it is open
        return min(options.save_fps, _fps_of(source))

    return recording_sink(base_of, fps, options.segment_s, keeper, annotate, source.note_left_out, say)


def _fps_of(source: Source) -> float:
    assert source.fps is not None  # every source but images has a rate
    return source.fps
