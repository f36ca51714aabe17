"""The programs that a model is exported for: one row and one module each. A module has ``write(Request)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from edgedet.errors import InputError
from edgedet.export.interop.target import Agreement, ModelFiles, Request

FRAMES = 12  # on which a target's files are compared with edgedet's own


@dataclass(frozen=True)
class Target:
    """A program, or several of one kind.

    module: in this folder.
    tflite: whether it is made from TFLite files.
    """

    name: str
    module: str
    tflite: bool = False


TARGETS = (
    Target("onnx-nms", "onnx_nms"),
    Target("tflite-app", "tflite_app", tflite=True),
    Target("deepstream", "deepstream"),
    Target("triton", "triton"),
    Target("frigate", "frigate", tflite=True),
)
NAMES = tuple(target.name for target in TARGETS)


@dataclass(frozen=True)
class TargetResult:
    """What was written for one target."""

    target: str
    folder: str
    agreements: list[Agreement]


def targets_named(text: str) -> tuple[Target, ...]:
    """Return the targets of a list with commas; raises InputError for a name that is none, or an empty list."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise InputError(
            f"--for takes {', '.join(NAMES)}, or several with commas; got {unknown[0] if unknown else text!r}."
        )
    return tuple(target for target in TARGETS if target.name in names)


def write_targets(
    targets: Sequence[Target], files: ModelFiles, out: Path, calib: str | None, is_demo: bool, threads: int
) -> list[TargetResult]:
    """Write ``out``/NAME for each target, each file compared with edgedet's own on frames of ``calib``.

    Raises VerificationError where a file's boxes differ; that file is not kept.
    """
    from edgedet.calibration.ranges.frames import take_calibration_frames
    from edgedet.engines.base import read_meta

    meta = read_meta(files.onnx)
    sets = take_calibration_frames(calib, meta.spec, FRAMES, 0, is_demo and calib is None)
    frames = [*sets.calibrate, *sets.select, *sets.gate]
    results = []
    for target in targets:
        folder = out / target.name
        module = import_module(f"edgedet.export.interop.{target.module}")
        results.append(
            TargetResult(target.name, str(folder), module.write(Request(files, meta, folder, frames, threads)))
        )
    return results
