"""Choose the frames of a scene that ranges are calibrated on, that layers are selected on, and that the gate judges on.

Frames come through the runtime's own sources and pre-processing. The source is cut into up to ten blocks of
neighbouring frames, and each block serves one purpose: neighbouring frames of a video show nearly the same, so the gate
would see what calibration saw if single frames took turns.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from edgedet import demo
from edgedet.calibration.ranges.frame_picker import FramePicker, pick_frames
from edgedet.errors import InputError, require
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec
from edgedet.stream.file_sources import ImageSource
from edgedet.stream.sources import Source, open_source
from edgedet.types import ModelInput

Item = TypeVar("Item")

COUNT = 128
# Purposes of the blocks, in order: 50 % calibrate, 30 % gate, 20 % select; a source of few frames gets the first ones.
BLOCKS = "CGSCCGCSCG"
# Where the source has them, so many times the frames are taken. The additional ones go to the gate, which uses no more
# of them than a sure verdict needs; ranges hardly gain by more frames (docs/int8.md).
OVERSAMPLING = 3
LIVE_SECONDS = 60.0  # over which frames of a camera or stream are taken
NAMED_FAILURES = 3
# Photographs inside scikit-image's wheel; its textures, microscope images and drawings are no scenes.
PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "motorcycle_left.png",
    "rocket.jpg",
)


@dataclass(frozen=True, eq=False)
class FrameSets:
    """Frames for three purposes; no frame serves two of them, and each owns its ``pixels``.

    calibrate:  ranges are chosen on these.
    select:     layers that go back to float are selected on these.
    gate:       the accuracy gate uses these, which no other step uses.
    source:     where they come from, fit to be published: a file's or folder's name, a URL without its password.
    requested:  number of frames that the user asked for.
    duplicates: number of frames left out because they show what another one shows.
    blank:      number of frames left out because they have only one colour.
    failures:   one line for each frame that cannot be read.
    notes:      what the user should know, a line each.
    """

    calibrate: tuple[ModelInput, ...]
    select: tuple[ModelInput, ...]
    gate: tuple[ModelInput, ...]
    source: str
    requested: int
    duplicates: int = 0
    blank: int = 0
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what a model file records of its frames. Failures are only counted, since their lines name paths."""
        return {
            "source": self.source,
            "asked": self.requested,
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
    """Take frames of a source and split them by purpose.

    Of ``count`` frames half calibrate and a fifth select, as if there were no more; all others are for the gate.

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
        opened = _open_photographs()
        notes.append(
            f"calibrating on {opened.total} photographs that scikit-image ships, too few for a verdict on most models: "
            "frames of the scene that the camera will see are better (--calib VIDEO, FOLDER or CAMERA)."
        )
    else:
        ends_s = time.monotonic() + live_seconds
        opened = open_source(source, lambda: stopped() or time.monotonic() > ends_s)
    picker = FramePicker(Preprocessor(spec))
    with closing(opened):
        times = 1 if opened.live or count < len(BLOCKS) else OVERSAMPLING
        taken = pick_frames(opened, picker, times * count, np.random.default_rng(seed), live_seconds)
    if len(taken) < min(count, 10):
        notes.append(
            f"{opened.name} holds only {len(taken)} different frames, so ranges and verdict are uncertain: "
            f"give about {COUNT}."
        )
    failures = tuple(dict.fromkeys([*opened.failures, *picker.failures]))
    if failures:
        more = "; ..." if len(failures) > NAMED_FAILURES else ""
        notes.append(
            f"the frames that cannot be used ({len(failures)}) are left out: "
            f"{'; '.join(failures[:NAMED_FAILURES])}{more}"
        )
    most = {"C": round(0.5 * count), "S": round(0.2 * count)} if times > 1 else {}
    split = {
        purpose: tuple(taken[index] for index in thin_out(positions, most.get(purpose, len(positions))))
        for purpose, positions in split_blocks(len(taken), seed).items()
    }
    return FrameSets(
        calibrate=split["C"],
        select=split["S"],
        gate=split["G"],
        source=_public_name(opened.name),
        requested=count,
        duplicates=picker.duplicates,
        blank=picker.blank,
        failures=failures,
        notes=tuple(notes),
    )


def split_blocks(count: int, seed: int = 0) -> dict[str, list[int]]:
    """Split the positions of ``count`` frames by purpose: "C" calibrate, "S" select, "G" gate; each list ascends.

    The frames are cut into up to ten blocks of nearly equal length; the seed rotates the order of their purposes.
    """
    purposes = BLOCKS[:count]
    turn = int(np.random.default_rng(seed).integers(max(len(purposes), 1)))
    purposes = purposes[turn:] + purposes[:turn]
    ends = [round(count * (number + 1) / len(purposes)) for number in range(len(purposes))]
    split: dict[str, list[int]] = {"C": [], "S": [], "G": []}
    for purpose, start, end in zip(purposes, [0, *ends], ends, strict=False):
        split[purpose] += range(start, end)
    return split


def thin_out(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` of the items, spread evenly over all."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def sha256_of_frame(frame: ModelInput) -> str:
    """Return the hex SHA-256 of a frame's model pixels."""
    return hashlib.sha256(frame.pixels.tobytes()).hexdigest()


def _public_name(name: str) -> str:
    """Return a source's name as a model file may hold it: without folders of this machine, password and token."""
    if "://" not in name:
        return Path(name).name or name
    address = urlsplit(name)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"


def _open_photographs() -> ImageSource:
    folder = Path(str(require("skimage", "calibration without --calib").__file__)).parent / "data"
    paths: Sequence[Path] = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not paths:
        raise InputError("this scikit-image ships no photographs: name frames of your scene by --calib.")
    return ImageSource("scikit-image's photographs", folder, paths)
