"""The files of events: their best pictures, and the videos of their cameras."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from ..errors import EdgeDetError, in_one_line, require
from ..files import atomic_path
from ..progress import Say
from ..stream.cameras.address import make_file_stem
from ..stream.outputs.draw import draw
from ..types import Detections
from .clips import ClipRecorder, ClipRules
from .record import Best, Event
from .watch import Change


@dataclass(frozen=True, eq=False)
class EventFrame:
    """A camera's frame, or None where it is left out, and what happened in it."""

    camera: str
    captured_s: float
    utc_s: float
    bgr: Optional[np.ndarray]
    changes: Sequence[Change]
    open_events: Tuple[Event, ...]

    @property
    def has_picture(self) -> bool:
        """Whether an event wants the frame as its best picture."""
        return any(change.better for change in self.changes)


class EventMedia:
    """Writes the files below a folder; used by one thread. What OpenCV or the encoder cannot do is told by ``say``."""

    def __init__(self, folder: Path, clips: ClipRules, class_names: Sequence[str], say: Say) -> None:
        self._folder, self._clips, self._class_names, self._say = folder, clips, class_names, say
        self._failures: Counter[str] = Counter()  # of pictures and videos, by camera
        self._recorders: Dict[str, ClipRecorder] = {}
        self._known: Dict[str, Event] = {}  # id -> an event of which snapshot and clips count

    def close(self) -> None:
        """Finish the videos."""
        for recorder in self._recorders.values():
            recorder.close()

    def record(self, item: EventFrame) -> None:
        """Put a frame into the camera's video; where that fails, the next frame begins a new one."""
        recorder = self._recorder_of(item.camera)
        if recorder is None:
            return
        try:
            if item.open_events:
                if item.bgr is not None:
                    recorder.begin(item.bgr, item.captured_s, item.utc_s)
                recorder.keep_until(item.captured_s)
            if item.bgr is not None:
                recorder.add(item.bgr, item.captured_s, item.utc_s)
        except (EdgeDetError, OSError):
            raise
        except Exception as error:  # of OpenCV or the encoder, which raise what they like
            self._tell_failure(item.camera, "the video of events", error)
            del self._recorders[item.camera]
            with suppress(Exception):  # the same error once more; what was written before may play
                recorder.close()

    def _tell_failure(self, camera: str, output: str, error: Exception) -> None:
        """Report the 1st, 2nd, 4th, 8th, ... failure of a camera."""
        self._failures[camera] += 1
        count = self._failures[camera]
        if not count & (count - 1):
            times = f", {count} times" if count > 1 else ""
            self._say(f"{output} of {camera or 'the file'}{times}: {in_one_line(error)}; the events go on")

    def _recorder_of(self, camera: str) -> Optional[ClipRecorder]:
        if self._clips.fps <= 0:
            return None
        if camera not in self._recorders:
            folder = self._folder / make_file_stem(camera)
            self._recorders[camera] = ClipRecorder(folder, self._clips)
        return self._recorders[camera]

    def attach(self, change: Change, item: EventFrame) -> Tuple[Event, Optional[bytes]]:
        """Return the event with its files, and the JPEG of a better picture."""
        event, recorder = change.event, self._recorders.get(item.camera)
        known = self._known.get(event.id, event)
        jpeg = None
        snapshot = known.snapshot
        lacks_picture = change.better or (
            not snapshot and change.kind == "update"
        )  # there was no room for the best one
        if lacks_picture and item.bgr is not None:
            try:
                jpeg = self._jpeg_of(event if change.better else _as_now(event), item.bgr)
            except Exception as error:  # of OpenCV
                self._tell_failure(item.camera, "the picture of an event", error)
        if jpeg is not None:
            stem = make_file_stem(item.camera)
            day = f"{event.id[:4]}-{event.id[4:6]}-{event.id[6:8]}"
            snapshot = f"{stem}/{day}/{event.id}.jpg"
            with atomic_path(self._folder / snapshot) as temporary:
                temporary.write_bytes(jpeg)
        clips, clip_from_s = known.clips, known.clip_from_s
        if recorder is not None and recorder.path is not None and change.kind != "end":
            path = recorder.path.relative_to(self._folder).as_posix()
            if path not in clips:
                if not clips:
                    clip_from_s = round(recorder.since_s(item.captured_s), 3)
                clips = (*clips, path)
        event = replace(event, snapshot=snapshot, clips=clips, clip_from_s=clip_from_s)
        if change.kind == "end":
            self._known.pop(event.id, None)
        else:
            self._known[event.id] = replace(event, path=())
        return event, jpeg

    def _jpeg_of(self, event: Event, bgr: np.ndarray) -> bytes:
        """Return the picture with the event's box drawn in."""
        height, width = bgr.shape[:2]
        box_xyxy = np.array([event.best.box], np.float32) * np.array([width, height, width, height], np.float32)
        detection = Detections(
            box_xyxy,
            np.array([event.best.score], np.float32),
            np.array([self._class_names.index(event.label)], np.int64),
        )
        _, jpeg = require("cv2", "pictures of events").imencode(".jpg", draw(bgr, detection, self._class_names))
        return bytes(jpeg.tobytes())


def _as_now(event: Event) -> Event:
    """Return the event as if its newest picture were its best one."""
    return replace(event, best=Best(event.seen_s, event.score, event.box))
