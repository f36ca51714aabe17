"""Build a TensorRT engine from an ONNX file: try several ways, measure accuracy and latency, and keep the best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from .. import __version__
from ..engines.table import engine_named
from ..engines.tensorrt.board import Board, Identity, check_int8, import_tensorrt, read_board
from ..engines.tensorrt.build import choose_file, choose_options
from ..engines.tensorrt.cuda import open_cuda
from ..errors import InputError, require
from ..files import sha256_of
from ..postprocess import DEFAULT_SCORE
from ..progress import Say
from .engine_reference import Trial, reference_of
from .recipes import INT8_SUFFIX, TYPED_SUFFIX, recipes
from .tune import HEADER, RUNS, build_best


@dataclass(frozen=True)
class BuildRequest:
    """Which engine to build, and how its accuracy is measured.

    model:        NAME_int8.onnx or NAME.onnx of ``edgedet export``.
    out:          engine to write; None: NAME.engine beside the model.
    precision:    "fp16" or "fp32"; None: the file's own precision.
    tune:         build an INT8 file in several ways; False: in one way, as it is written.
    source:       video, folder or camera with the frames for the accuracy gate; None: the demo's clip.
    score:        threshold in (0, 1) of the detections that the accuracy gate compares.
    force:        keep an engine whose accuracy could not be measured.
    workspace_mb: scratch memory in MB; None: chosen from the free memory.
    low_memory:   try fewer kernels, which takes less memory.
    """

    model: Path
    out: Optional[Path] = None
    precision: Optional[str] = None
    tune: bool = True
    source: Optional[str] = None
    score: float = DEFAULT_SCORE
    force: bool = False
    workspace_mb: Optional[int] = None
    low_memory: bool = False


@dataclass(frozen=True)
class BuildReport:
    """The engine that was built and the figures of all trials, as ``edgedet build --json`` writes them.

    edgedet:       version of edgedet.
    onnx, engine:  paths of the files.
    judged_by:     name of the file whose detections are the reference of the accuracy gate.
    frames, score: number of frames of the gate, and the threshold of the detections that it compares.
    """

    edgedet: str
    board: Identity
    onnx: str
    onnx_sha256: str
    engine: str
    engine_sha256: str
    workspace_bytes: int
    low_memory: bool
    judged_by: str
    frames: int
    score: float
    trials: Tuple[Trial, ...]

    def to_dict(self) -> Dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def build_model(request: BuildRequest, say: Say = print) -> BuildReport:
    """Build an engine in one or several ways, and keep the best.

    say: called with each line of the table as soon as it is known.
    Raises an EdgeDetError where no engine could be built, VerificationError where none passed the accuracy gate.
    """
    out = request.out or request.model.with_suffix(".engine")
    if out.suffix.lower() not in engine_named("trt").suffixes:
        raise InputError(f"an engine's name ends in .engine: wanted -o NAME.engine, got {out}.")
    trt = import_tensorrt("edgedet build")
    require("cv2", "edgedet build")
    board = describe_board(trt)
    onnx = choose_file(trt, request.model)
    if onnx.meta.precision == "int8" and request.precision is None:
        check_int8(board.identity.compute_capability)
    options = choose_options(board, request.workspace_mb, request.low_memory)
    candidates = recipes(onnx, request.precision, request.tune)
    say(f"{board.identity.line()}, workspace {options.workspace_bytes >> 20} MB")
    reference = reference_of(onnx, request.source, request.score, request.force)
    say(f"judged against {reference.name} on {len(reference.frames)} frames, {RUNS} runs each\n{HEADER}")
    trials = build_best(trt, board, candidates, options, reference, out, request.force, say)
    kept = next(trial for trial in trials if trial.kept)
    say(f"wrote {out}: {kept.recipe}, {out.stat().st_size / 1e6:.1f} MB")
    return BuildReport(
        edgedet=__version__,
        board=board.identity,
        onnx=str(onnx.path),
        onnx_sha256=onnx.sha256,
        engine=str(out),
        engine_sha256=sha256_of(out),
        workspace_bytes=options.workspace_bytes,
        low_memory=options.low_memory,
        judged_by=reference.name,
        frames=len(reference.frames),
        score=request.score,
        trials=tuple(trials),
    )


def files_of_build(model: Path) -> List[Path]:
    """Return an ONNX file, and those beside it that ``build_model`` reads, too, as far as they are there.

    Of an INT8 model: the float file, the file with FP16 scales, and the calibration table.
    """
    name = model.stem[: -len(TYPED_SUFFIX)] if model.stem.endswith(TYPED_SUFFIX) else model.stem
    if not name.endswith(INT8_SUFFIX):
        return [model]
    names = (f"{name[: -len(INT8_SUFFIX)]}.onnx", f"{name}.onnx", f"{name}{TYPED_SUFFIX}.onnx", f"{name}.table.json")
    beside = [model.with_name(other) for other in names if other != model.name]
    return [model, *(path for path in beside if path.is_file())]


def describe_board(trt: Any) -> Board:
    """Describe this machine, and give the GPU's memory back before the build."""
    cuda = open_cuda()
    try:
        return read_board(trt, cuda)
    finally:
        cuda.close()
