"""Take single frames from a source: spread evenly over it, none of one colour, none that shows what another one shows.

Images, videos and cameras are read in different ways, because only files can be read again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from edgedet.errors import InputError, SourceError, require
from edgedet.preprocess import Preprocessor
from edgedet.stream.file_sources import ImageSource
from edgedet.stream.images import read_image
from edgedet.stream.sources import Source, open_source
from edgedet.types import ModelInput

TRIES = 4  # frames that are read, at most, until one can be used
THUMBNAIL = 32  # pixels, both sides
# Two frames show different things where one pixel of their thumbnails differs by so many grey levels. Camera noise of
# sigma 8 on a 640 x 427 picture moves a pixel by 2; pedestrians and cars on three street clips by 27 and more from one
# frame to the next (5th percentile). The mean difference would not serve: it is 1 there, because a still background
# fills most of the picture.
LEAST_CHANGE = 10
PATIENCE_S = 2.0  # before a progress bar appears


@dataclass(eq=False)
class FramePicker:
    """Decides for one frame after the other whether it is used, and counts those that are not."""

    preprocess: Preprocessor
    thumbnails: list[np.ndarray] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seen: int = 0
    duplicates: int = 0
    blank: int = 0

    def __call__(self, bgr: np.ndarray) -> ModelInput | None:
        """Return the frame as the model's input; None where it has only one colour, or shows nothing new."""
        self.seen += 1
        thumbnail = _make_thumbnail(bgr)
        if thumbnail.max() - thumbnail.min() < LEAST_CHANGE:
            self.blank += 1
            return None
        if any(np.abs(thumbnail - other).max() < LEAST_CHANGE for other in self.thumbnails):
            self.duplicates += 1
            return None
        self.thumbnails.append(thumbnail)
        model_input = self.preprocess(bgr)
        return replace(model_input, pixels=model_input.pixels.copy())


def _make_thumbnail(bgr: np.ndarray) -> np.ndarray:
    """Return (THUMBNAIL, THUMBNAIL) int16 grey levels, each the mean of its part of the picture."""
    cv2 = require("cv2", "calibration")
    small = cv2.resize(bgr, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.int16)


def pick_frames(
    source: Source, picker: FramePicker, count: int, random: np.random.Generator, live_seconds: float
) -> list[ModelInput]:
    """Take up to ``count`` frames of the source, spread over all of it, or over ``live_seconds`` of a live one.

    Raises SourceError where no frame can be read, and InputError where all have one colour or all look alike.
    """
    if isinstance(source, ImageSource):
        frames = _pick_from_images(source, picker, count, random)
    elif source.live:
        frames = _pick_from_live(source, picker, live_seconds / count)
    else:
        frames = _pick_from_video(source, picker, count, random)
    taken = []
    tqdm = require("tqdm", "calibration").tqdm
    with tqdm(total=count, desc="frames", unit="frame", file=sys.stderr, leave=False, delay=PATIENCE_S) as bar:
        for frame in frames:
            taken.append(frame)
            bar.update()
            if len(taken) == count:
                break
    if not taken and not picker.seen:
        failures = [*source.failures, *picker.failures] or ["no frame came"]
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise SourceError(f"no frame of {source.name} can be read: {failures[0].rstrip('.')}{more}.")
    if not taken:
        raise InputError(
            f"all {picker.seen} frames of {source.name} are evenly one colour: is the lens covered? "
            "Calibrate on frames that show something."
        )
    if len(taken) == 1 and picker.seen > 1:
        raise InputError(
            f"all {picker.seen} frames of {source.name} look alike or are blank: calibration needs different ones."
        )
    return taken


def _choose_slots(total: int, count: int, random: np.random.Generator) -> list[list[int]]:
    """Cut ``total`` frames into ``count`` equal stretches; return the indices to try in each, ascending.

    The first lies anywhere in the stretch's first half, the others evenly between it and the end.
    """
    count = min(count, total)
    edges = [round(total * number / count) for number in range(count + 1)]
    slots = []
    for start, end in zip(edges, edges[1:], strict=False):
        first = start + int(random.integers(1 + (end - start) // 2))
        slots.append(sorted(set(np.linspace(first, end - 1, TRIES).astype(int).tolist())))
    return slots


def _pick_from_images(
    source: ImageSource, picker: FramePicker, count: int, random: np.random.Generator
) -> Iterator[ModelInput]:
    """Read only the files that are tried."""
    for slot in _choose_slots(len(source.paths), count, random):
        for index in slot:
            try:
                frame = picker(read_image(source.paths[index]))
            except SourceError as error:
                picker.failures.append(str(error))
                continue
            if frame is not None:
                yield frame
                break


def _pick_from_video(
    source: Source, picker: FramePicker, count: int, random: np.random.Generator
) -> Iterator[ModelInput]:
    """Read the frames in order, because seeking is not exact in many containers; keep only those that are taken."""
    if source.total is None:
        with closing(open_source(source.name, lambda: False)) as same_source:
            total = sum(1 for _ in same_source)
    else:
        total = source.total
    if not total:
        return
    slot_of = {index: number for number, slot in enumerate(_choose_slots(total, count, random)) for index in slot}
    last, last_slot = max(slot_of), -1
    for frame in source:
        number = slot_of.get(frame.index, -1)
        if number > last_slot:
            taken = picker(frame.bgr)
            if taken is not None:
                last_slot = number
                yield taken
        if frame.index == last:
            return


def _pick_from_live(source: Source, picker: FramePicker, every_s: float) -> Iterator[ModelInput]:
    """Take a frame every ``every_s`` seconds."""
    due_s = -1.0
    for frame in source:
        if frame.captured_s < due_s:
            continue
        taken = picker(frame.bgr)
        if taken is not None:
            due_s = max(due_s + every_s, frame.captured_s) if due_s >= 0 else frame.captured_s + every_s
            yield taken
