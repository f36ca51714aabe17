"""Export the model files that a benchmark of the family needs, once, and keep them in the cache.

Without a checkpoint the weights are random (``random_weights``): such a file takes the same time as a trained one, and
its detections mean nothing. Each export runs in a process of its own, so that its memory is freed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet import __version__, demo
from edgedet.child_process import Child
from edgedet.engines.table import PRECISIONS, PUBLIC_ENGINES, engine_named
from edgedet.errors import InputError, require
from edgedet.files import cache_folder, make_folder, sha256_of
from edgedet.specs import PHI, spec_for

if TYPE_CHECKING:
    from edgedet.export.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True)
class FamilyFile:
    """One file of the family.

    weights: checkpoint, "demo" for the bundled one, or None for random weights.
    calib, frames: of INT8, as ``edgedet export`` takes them; random weights take their ranges from one picture.
    """

    phi: int
    precision: str
    engine: str
    weights: str | None = None
    seed: int = 0
    calib: str | None = None
    frames: int = 128

    @property
    def label(self) -> str:
        """The name in messages: "D0 int8 tflite"."""
        return f"{short_name(self.phi)} {self.precision} {self.engine}"


def short_name(phi: int) -> str:
    """Return "D0" to "D7", "D7x" for 8."""
    return PHI[phi].rpartition("_")[2].upper().replace("X", "x")


def list_files(
    phis: list[int], precisions: list[str], engines: list[str], **more: Any
) -> tuple[list[FamilyFile], list[str]]:
    """Return each file of the product, in the order of phi, and one line for each pair that there is no file for.

    Raises InputError for a name or number that is none, and where no pair is left.
    """
    for option, values, known in (
        ("--phi", phis, list(PHI)),
        ("--precision", precisions, list(PRECISIONS)),
        ("--engine", engines, [engine.name for engine in PUBLIC_ENGINES]),
    ):
        for value in values:
            if value not in known:
                raise InputError(f"{option} takes {', '.join(map(str, known))}; got {value!r}.")
    pairs = [(precision, engine) for precision in precisions for engine in engines]
    reasons = {(precision, engine): engine_named(engine).why_no_file(precision) for precision, engine in pairs}
    left_out = [f"{' '.join(pair)}: {reason}" for pair, reason in reasons.items() if reason is not None]
    if len(left_out) == len(pairs):
        raise InputError(f"nothing to measure: {'; '.join(left_out)}.")
    return [FamilyFile(phi, *pair, **more) for phi in phis for pair in pairs if reasons[pair] is None], left_out


def check_engine(engine: str) -> None:
    """Raise MissingDependency where no package of an engine is installed."""
    packages = engine_named(engine).packages
    if packages and not any(find_spec(package.module) for package in packages):
        require(packages[0].module, f"--engine {engine}", packages[0].install)


def prepare_file(file: FamilyFile, threads: int) -> Path:
    """Return the file, from the cache or exported now; says on stderr what is exported.

    Raises whatever the export raises.
    """
    path = cached_path(file)
    make_folder(path.parent)
    if path.is_file():
        return path
    float_onnx = None
    if (file.precision, file.engine) not in (("fp32", "ort"), ("fp32", "tflite")):
        float_onnx = prepare_file(replace(file, precision="fp32", engine="ort"), threads)
    print(f"edgedet: exporting {file.label} ({file.weights or 'random weights'})", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as folder:
        with Child(_make, file, Path(folder) / path.name, float_onnx, threads) as child:
            child.first()
        for written in Path(folder).iterdir():
            if written.is_file() and written.name != getattr(float_onnx, "name", ""):
                os.replace(written, path.with_name(written.name))
    return path


def cached_path(file: FamilyFile) -> Path:
    """Return where the file is kept: a folder for each version, exporter, spec, checkpoint and way of calibrating."""
    key: dict[str, Any] = {"edgedet": __version__, "spec": spec_for(PHI[file.phi]).to_dict(), "seed": file.seed}
    key["exporter"] = hash_code("export", without="export_int8.py")
    if file.weights is not None:
        key["weights"] = sha256_of(demo.WEIGHTS if file.weights == "demo" else file.weights)
    if file.precision == "int8":
        key.update(int8=[hash_code("export"), hash_code("calibration")], calib=file.calib, frames=file.frames)
    if file.engine == "trt":
        key["tensorrt"] = version("tensorrt")
    folder = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    stem = "random" if file.weights is None else Path(file.weights).stem
    name = f"{PHI[file.phi].removeprefix('tf_')}_{stem}{engine_named(file.engine).files[file.precision]}"
    return cache_folder() / "bench" / folder / name


def hash_code(package: str, without: str = "") -> str:
    """Return a hash of a package's code: a file of yesterday's exporter is not today's."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).resolve().parents[2] / package).rglob("*.py")):
        if path.name != without:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _make(file: FamilyFile, out: Path, float_onnx: Path | None, threads: int) -> tuple[None, None]:
    """Write the file; runs in a child. Other files that come of it are left beside it."""
    import torch

    torch.set_num_threads(threads)
    if float_onnx is None:
        from edgedet.export.export_onnx import export_onnx

        export_onnx(_load_checkpoint(file), out.with_suffix(".onnx"), threads, tflite=file.engine == "tflite")
        return None, None
    onnx = out.with_name(float_onnx.name)
    shutil.copyfile(float_onnx, onnx)
    if file.precision == "int8":
        onnx = _make_int8(file, onnx, threads)
    if file.engine == "trt":
        from edgedet.board.build import BuildRequest, build_model

        precision = None if file.precision == "int8" else file.precision
        request = BuildRequest(onnx, out, precision, source=file.calib, force=True)
        build_model(request, lambda line: print(line, file=sys.stderr))
    return None, None


def _make_int8(file: FamilyFile, float_onnx: Path, threads: int) -> Path:
    """Write INT8 files beside the float one; return the ONNX file's path."""
    from edgedet.export.int8.export_int8 import export_int8, read_float_model
    from edgedet.export.int8.options import Int8Options

    model, meta = read_float_model(float_onnx)
    onnx = float_onnx.with_name(f"{float_onnx.stem}_int8.onnx")
    if file.weights is None:
        from edgedet.benchmarks.models.ungated_int8 import write_ungated

        write_ungated(model, meta, onnx if file.engine == "trt" else onnx.with_suffix(".tflite"))
    else:
        options = Int8Options(
            calib=file.calib, frames=file.frames, threads=threads, force=True, is_demo=file.weights == "demo"
        )
        export_int8(float_onnx, model, meta, options, lambda line: print(line, file=sys.stderr, flush=True))
    return onnx


def _load_checkpoint(file: FamilyFile) -> Checkpoint:
    from edgedet.export.checkpoints.checkpoint import load_checkpoint

    if file.weights is None:
        from edgedet.benchmarks.models.random_weights import random_checkpoint

        return random_checkpoint(spec_for(PHI[file.phi]), file.seed)
    path = demo.WEIGHTS if file.weights == "demo" else Path(file.weights)
    return load_checkpoint(path, PHI[file.phi], exact=False)
