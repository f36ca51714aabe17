"""ONNX file -> the TensorRT engine that this board keeps: build what can be tried, judge, time, keep the best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from .. import __version__
from ..engines.table import engine_named
from ..engines.tensorrt.board import Board, check_int8, import_tensorrt, this_board
from ..engines.tensorrt.build import file_for, options_for
from ..engines.tensorrt.cuda import open_cuda
from ..errors import InputError, require
from ..files import sha256_of
from ..postprocess import DEFAULT_SCORE
from .tune import HEADER, RUNS, build_best, recipes, reference_of


@dataclass(frozen=True)
class BuildRequest:
    """Which engine is wanted, and how it is judged.

    model:        NAME_int8.onnx or NAME.onnx of ``edgedet export``.
    out:          engine to write; None: NAME.engine beside the model.
    precision:    "fp16" or "fp32"; None: what the file is for.
    tune:         try an INT8 file in several ways; False: in one way, as it is written.
    source:       video, folder or camera whose frames it is judged on; None: the demo's clip.
    score:        threshold in (0, 1) that it is judged at.
    force:        keep an engine whose accuracy could not be judged.
    workspace_mb: scratch memory in MB; None: by what is free.
    low_memory:   try fewer kernels.
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


def build_model(request: BuildRequest, say: Callable[[str], None] = print) -> Dict[str, Any]:
    """Build an engine and return the figures that ``edgedet build --json`` writes.

    say: takes each line of the table as soon as it is known.
    Raises an EdgeDetError where nothing could be built, VerificationError where nothing passed.
    """
    out = request.out or request.model.with_suffix(".engine")
    if out.suffix.lower() not in engine_named("trt").suffixes:
        raise InputError(f"an engine's name ends in .engine: wanted -o NAME.engine, got {out}.")
    trt = import_tensorrt("edgedet build")
    require("cv2", "edgedet build")
    board = _describe_board(trt)
    onnx = file_for(trt, request.model)
    if onnx.meta.precision == "int8" and request.precision is None:
        check_int8(board.identity.compute_capability)
    options = options_for(board, request.workspace_mb, request.low_memory)
    tried = recipes(onnx, request.precision, request.tune)
    say(f"{board.identity.line()}, workspace {options.workspace_bytes >> 20} MB")
    reference = reference_of(onnx, request.source, request.score, request.force)
    say(f"judged against {reference.name} on {len(reference.frames)} frames, {RUNS} runs each\n{HEADER}")
    trials = build_best(trt, board, tried, options, reference, out, request.force, say)
    kept = next(trial for trial in trials if trial.kept)
    say(f"wrote {out}: {kept.recipe}, {out.stat().st_size / 1e6:.1f} MB")
    return {
        "edgedet": __version__,
        "board": board.identity.to_dict(),
        "onnx": str(onnx.path),
        "onnx_sha256": onnx.sha256,
        "engine": str(out),
        "engine_sha256": sha256_of(out),
        "workspace_bytes": options.workspace_bytes,
        "low_memory": options.low_memory,
        "judged_by": reference.name,
        "frames": len(reference.frames),
        "score": request.score,
        "trials": [asdict(trial) for trial in trials],
    }


def _describe_board(trt: Any) -> Board:
    """Describe this machine, and give the GPU's memory back before the build."""
    cuda = open_cuda()
    try:
        return this_board(trt, cuda)
    finally:
        cuda.close()
