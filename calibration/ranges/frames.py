"""Which pictures a model is calibrated and judged on. Knows sources and pre-processing; knows no network.

Pictures come through the runtime's own sources and pre-processing, spread evenly over the source. The source is cut
into up to ten blocks of neighbours, and each block serves one purpose: frames of a video that lie beside each other
show nearly the same, so dealing them out one by one would let the gate see what calibration saw.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edgedet import demo
from edgedet.errors import InputError, SourceError, require
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec
from edgedet.stream.sources import ImageSource, Source, open_source, read_image
from edgedet.types import Frame, ModelInput

COUNT = 128
# Purposes of the blocks, in order: 50 % calibrate, 30 % gate, 20 % select; a source of few frames gets the first ones.
BLOCKS = "CGSCCGCSCG"
# Times as many frames are taken where the source has them, and what is more goes to the gate: it takes no more of them
# than a sure verdict needs, while ranges hardly gain by more (docs/int8.md).
OVERSAMPLING = 3
TRIES = 4  # frames looked at for one that can be read and is new
LIVE_SECONDS = 60.0  # over which frames of a camera or stream are taken
THUMBNAIL = 32  # pixels, both sides
# Grey levels by which one pixel of the thumbnail must differ. Camera noise of sigma 8 on a 640 x 427 picture moves a
# pixel by 2; pedestrians and cars on three street clips by 27 and more from one frame to the next (5th percentile).
# The mean difference would not do: it is 1 there, because a still background fills most of the picture.
LEAST_CHANGE = 10
PATIENCE_S = 2.0  # before a progress bar appears
NAMED_FAILURES = 3
# Photographs inside scikit-image's wheel; its textures, microscope images and drawings are no scenes.
PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "motorcycle_left.png",
    "rocket.jpg",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FrameSets:
    """Frames for three purposes, disjoint; ``pixels`` of each are a copy of its own.

    calibrate:  ranges are taken from these.
    select:     choices between ways to quantise are made on these.
    gate:       the written file is judged on these, which nothing else saw.
    source:     where they come from, fit to be published: a file's or folder's name, a URL without its password.
    asked:      number of frames that was wanted.
    duplicates: number of frames left out because they show what another one shows.
    blank:      number of frames left out because they are evenly one colour.
    failures:   one line for each frame that cannot be read.
    notes:      what the user should know, a line each.
    """

    calibrate: tuple[ModelInput, ...]
    select: tuple[ModelInput, ...]
    gate: tuple[ModelInput, ...]
    source: str
    asked: int
    duplicates: int = 0
    blank: int = 0
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """Return what a model file says of its frames, for JSON; failures as a number, since their lines name paths."""
        return {
            "source": self.source,
            "asked": self.asked,
            "calibrate": len(self.calibrate),
            "select": len(self.select),
            "gate": len(self.gate),
            "duplicates": self.duplicates,
            "blank": self.blank,
            "failures": len(self.failures),
            "gate_sha256": hashlib.sha256("".join(map(sha256_of_frame, self.gate)).encode()).hexdigest(),
        }


def take_calibration_frames(
    source: str | None,
    spec: DetectorSpec,
    count: int = COUNT,
    seed: int = 0,
    is_demo: bool = False,
    live_seconds: float = LIVE_SECONDS,
    stopped: Callable[[], bool] = lambda: False,
) -> FrameSets:
    """Take frames of a source and split them: as of ``count`` to calibrate and select, and all others for the gate.

    source:       all that ``open_source`` opens; None takes the demo's clip, or scikit-image's photographs.
    seed:         shifts which frames are taken and which blocks serve which purpose.
    live_seconds: how long a camera or stream is watched; ``stopped`` ends that early.
    Raises InputError in one line where no frame can be read, all are blank, or all look alike.
    """
    if count < 1:
        raise InputError(f"calibration needs at least one frame; {count} were asked for.")
    notes = []
    if source is None and is_demo:
        source = str(demo.CLIP)
    opened: Source
    if source is None:
        opened = _photographs()
        notes.append(
            f"calibrating on {opened.total} photographs that scikit-image ships, too few for a verdict on most models: "
            "frames of the scene that the camera will see are better (--calib VIDEO, FOLDER or CAMERA)."
        )
    else:
        ends_s = time.monotonic() + live_seconds
        opened = open_source(source, lambda: stopped() or time.monotonic() > ends_s)
    picker = _Picker(Preprocessor(spec))
    with closing(opened):
        times = 1 if opened.live or count < len(BLOCKS) else OVERSAMPLING
        taken = _take(opened, picker, times * count, np.random.default_rng(seed), live_seconds)
    if len(taken) < min(count, 10):
        notes.append(
            f"only {len(taken)} different frames of {opened.name}: ranges and verdict are uncertain; "
            f"give some {COUNT} of them."
        )
    failures = tuple(dict.fromkeys([*opened.failures, *picker.failures]))
    if failures:
        more = "; ..." if len(failures) > NAMED_FAILURES else ""
        notes.append(f"{len(failures)} failures, the rest is used: {'; '.join(failures[:NAMED_FAILURES])}{more}")
    most = {"C": round(0.5 * count), "S": round(0.2 * count)} if times > 1 else {}
    split = {
        purpose: tuple(taken[at] for at in _thinned(positions, most.get(purpose, len(positions))))
        for purpose, positions in split_blocks(len(taken), seed).items()
    }
    return FrameSets(
        split["C"], split["S"], split["G"], _public_name(opened.name), count,
        picker.duplicates, picker.blank, failures, tuple(notes),
    )  # fmt: skip


def split_blocks(count: int, seed: int = 0) -> dict[str, list[int]]:
    """Return the positions of ``count`` frames in a row that serve each purpose "C", "S" and "G", ascending.

    The row is cut into up to ten blocks as equal as can be; the seed turns the order of their purposes.
    """
    purposes = BLOCKS[:count]
    turn = int(np.random.default_rng(seed).integers(max(len(purposes), 1)))
    purposes = purposes[turn:] + purposes[:turn]
    ends = [round(count * (number + 1) / len(purposes)) for number in range(len(purposes))]
    split: dict[str, list[int]] = {"C": [], "S": [], "G": []}
    for purpose, start, end in zip(purposes, [0, *ends], ends, strict=False):
        split[purpose] += range(start, end)
    return split


def _thinned(positions: list[int], most: int) -> list[int]:
    """Return at most so many of the positions, spread over all."""
    if len(positions) <= most:
        return positions
    return [positions[index] for index in np.linspace(0, len(positions) - 1, most).round().astype(int)]


def sha256_of_frame(frame: ModelInput) -> str:
    """Return the hex SHA-256 of a frame's model pixels."""
    return hashlib.sha256(frame.pixels.tobytes()).hexdigest()


def measure_range_movement(
    first: Mapping[str, tuple[float, float]], second: Mapping[str, tuple[float, float]]
) -> tuple[float, float, str]:
    """Return how far ranges differ between two halves of the frames: (median, largest, the tensor that it is of).

    A tensor's movement is the larger of its two ends' differences, as a share of the wider of its two ranges.
    """
    moved = {}
    for name, (low, high) in first.items():
        other_low, other_high = second[name]
        width = max(high - low, other_high - other_low)
        moved[name] = max(abs(high - other_high), abs(low - other_low)) / width if width > 0 else 0.0
    worst = max(moved, key=moved.__getitem__)
    return float(np.median(list(moved.values()))), moved[worst], worst


# --- taking frames ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Picker:
    """Judges frames one by one and counts what it leaves out; remembers thumbnails only."""

    preprocess: Preprocessor
    thumbnails: list[np.ndarray] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    looked_at: int = 0
    duplicates: int = 0
    blank: int = 0

    def __call__(self, bgr: np.ndarray) -> ModelInput | None:
        """Return the frame as the model sees it, or None where it shows nothing or nothing new."""
        self.looked_at += 1
        thumbnail = _thumbnail(bgr)
        if thumbnail.max() - thumbnail.min() < LEAST_CHANGE:
            self.blank += 1
            return None
        if any(np.abs(thumbnail - other).max() < LEAST_CHANGE for other in self.thumbnails):
            self.duplicates += 1
            return None
        self.thumbnails.append(thumbnail)
        seen = self.preprocess(bgr)
        return ModelInput(seen.pixels.copy(), seen.scale_to_source, seen.source_hw)


def _thumbnail(bgr: np.ndarray) -> np.ndarray:
    """Return (THUMBNAIL, THUMBNAIL) int16 grey levels, each the mean of its part of the picture."""
    cv2 = require("cv2", "calibration")
    small = cv2.resize(bgr, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.int16)


def _take(
    source: Source, picker: _Picker, count: int, random: np.random.Generator, live_seconds: float
) -> list[ModelInput]:
    if isinstance(source, ImageSource):
        frames = _of_images(source, picker, count, random)
    elif source.live:
        frames = _of_live(source, picker, live_seconds / count)
    else:
        frames = _of_video(source, picker, count, random)
    taken = []
    tqdm = require("tqdm", "calibration").tqdm
    with tqdm(total=count, desc="frames", unit="frame", file=sys.stderr, leave=False, delay=PATIENCE_S) as bar:
        for frame in frames:
            taken.append(frame)
            bar.update()
            if len(taken) == count:
                break
    if not taken and not picker.looked_at:
        failures = [*source.failures, *picker.failures] or ["no frame came"]
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise SourceError(f"no frame of {source.name} can be read: {failures[0].rstrip('.')}{more}.")
    if not taken:
        raise InputError(
            f"all {picker.looked_at} frames of {source.name} are evenly one colour: is the lens covered? "
            "Calibrate on frames that show something."
        )
    if len(taken) == 1 and picker.looked_at > 1:
        raise InputError(
            f"all {picker.looked_at} frames of {source.name} look alike or are blank: calibration needs different ones."
        )
    return taken


def _slots(total: int, count: int, random: np.random.Generator) -> list[list[int]]:
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


def _of_images(
    source: ImageSource, picker: _Picker, count: int, random: np.random.Generator
) -> Iterator[ModelInput]:  # fmt: skip
    """Read only the files that are tried."""
    for slot in _slots(len(source.paths), count, random):
        for index in slot:
            try:
                frame = picker(read_image(source.paths[index]))
            except SourceError as error:
                picker.failures.append(str(error))
                continue
            if frame is not None:
                yield frame
                break


def _of_video(source: Source, picker: _Picker, count: int, random: np.random.Generator) -> Iterator[ModelInput]:
    """Read in order, because seeking is not exact in many containers; only taken frames are kept."""
    if source.total is None:
        with closing(open_source(source.name, lambda: False)) as counted:
            total = sum(1 for _ in counted)
    else:
        total = source.total
    if not total:
        return
    slot_of = {index: number for number, slot in enumerate(_slots(total, count, random)) for index in slot}
    last, done = max(slot_of), -1
    for frame in source:
        number = slot_of.get(frame.index, -1)
        if number > done:
            taken = picker(frame.bgr)
            if taken is not None:
                done = number
                yield taken
        if frame.index == last:
            return


def _of_live(source: Source, picker: _Picker, every_s: float) -> Iterator[ModelInput]:
    """Take a new frame each ``every_s`` seconds."""
    due_s = -1.0
    frame: Frame
    for frame in source:
        if frame.captured_s < due_s:
            continue
        taken = picker(frame.bgr)
        if taken is not None:
            due_s = max(due_s + every_s, frame.captured_s) if due_s >= 0 else frame.captured_s + every_s
            yield taken


def _public_name(name: str) -> str:
    """Return what a model file may tell of a source: no folders of this machine, no password, no token."""
    if "://" not in name:
        return Path(name).name or name
    address = urlsplit(name)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"


def _photographs() -> ImageSource:
    folder = Path(str(require("skimage", "calibration without --calib").__file__)).parent / "data"
    paths: Sequence[Path] = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not paths:
        raise InputError("this scikit-image ships no photographs: name frames of your scene by --calib.")
    return ImageSource("scikit-image's photographs", folder, paths)
