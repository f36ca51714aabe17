"""The programs that a model is exported for: one row and one module each. A module has ``write(Request)``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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

    Raises VerificationError where a file's boxes differ; of that target nothing is written.
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
        with _all_or_nothing(folder) as staged:
            agreements = module.write(Request(files, meta, staged, frames, threads))
        results.append(TargetResult(target.name, str(folder), agreements))
    return results


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; if the block succeeds, move its files into ``folder``.

    Other files that are there stay, such as engines that were built of an earlier export. Raises InputError where the
    folder cannot be written.
    """
    with _explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        staged = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent)
    try:
        with staged:
            yield Path(staged.name)
            with _explain_write_errors(folder):
                _move_files(Path(staged.name), folder)
    finally:
        with suppress(OSError):
            folder.rmdir()  # if nothing came


def _move_files(source: Path, folder: Path) -> None:
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        kept = folder / path.relative_to(source)
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, kept)


@contextmanager
def _explain_write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}; give another --out.") from None
