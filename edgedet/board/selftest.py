"""Test on a board whether edgedet works there, with a step for each claim.

For each claim that only a machine with a GPU can prove, docs/jetson.md names the step that proves it.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .. import __version__, demo
from ..detector import Detector
from ..engines.base import open_engine, rebuild_model
from ..engines.onnx_file import read_onnx
from ..engines.tensorrt.board import import_tensorrt
from ..engines.tensorrt.engine import TrtEngine
from ..engines.tensorrt.engine_file import BUILT_ON, REPORT, add_to_report, read_engine
from ..engines.tensorrt.members import MEMBERS
from ..errors import EdgeDetError, OutdatedError, require
from ..machine import clock_mhz, governor, read_machine
from ..progress import Say
from ..types import Frame, ModelInput
from . import tune as build_tune
from .build import BuildRequest, build_model
from .recipes import INT8_SUFFIX
from .tune import opened

SUSTAINED_S = 60.0  # a passively cooled board is warm by then
FRAMES = 30
SAME_SHARE = (
    1e-3  # of the largest logit: copies, zero-copy and graphs run the same kernels; atomics may add in any order
)
_THERMAL = Path("/sys/class/thermal")
_PACKAGES = ("numpy", "cv2", "onnxruntime", "tensorrt", "pycuda", "cuda.bindings")


@dataclass(frozen=True)
class Step:
    """One claim and what came of it.

    figures: what was measured, JSON values without paths or names of the machine.
    """

    name: str
    claim: str
    ok: bool
    seconds: float
    reason: str = ""
    figures: Dict[str, Any] = field(default_factory=dict)


def run_selftest(onnx: Path, sustained_s: float, say: Say) -> List[Step]:
    """Run every step on links to the model and the files beside it, so that no engine of the user's is replaced."""
    read_onnx(onnx)
    require("cv2", "edgedet selftest")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        name = onnx.stem[: -len(INT8_SUFFIX)] if onnx.stem.endswith(INT8_SUFFIX) else onnx.stem
        for path in (*onnx.parent.glob(f"{name}*.onnx"), *onnx.parent.glob(f"{name}*.table.json")):
            (work / path.name).symlink_to(path.resolve())
        link = work / onnx.name
        return run_steps(link, link.with_suffix(".engine"), sustained_s, say)


def run_steps(onnx: Path, engine: Path, sustained_s: float, say: Say) -> List[Step]:
    """Run every step, also behind one that failed; ``engine`` is written."""
    steps = []
    for name, claim, work in _steps(onnx, engine, sustained_s):
        started = time.monotonic()
        figures: Dict[str, Any] = {}
        reason = ""
        try:
            figures, reason = work()
        except EdgeDetError as error:
            reason = str(error)
        except Exception as error:  # on a board, TensorRT's bindings may raise anything: that is what is asked
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        step = Step(name, claim, not reason, time.monotonic() - started, reason, figures)
        steps.append(step)
        say(f"{'ok  ' if step.ok else 'FAIL'} {name:<9} {claim}" + (f": {reason}" if reason else ""))
    return steps


Work = Callable[[], Tuple[Dict[str, Any], str]]  # -> figures, and why the claim does not hold ("": it does)


def _steps(onnx: Path, engine: Path, sustained_s: float) -> List[Tuple[str, str, Work]]:
    return [
        ("system", "what this board is", _system),
        ("members", "TensorRT's bindings have every member that edgedet uses", _members),
        ("build", "recipes build, and one finds what the ONNX file finds", lambda: _build(onnx, engine)),
        ("load", "the engine opens, and gives the same twice, also in another thread", lambda: _load(engine)),
        ("memory", "shared memory gives what copies give; which is faster", lambda: _compare(engine, "zero_copy")),
        ("graph", "a CUDA graph gives what launches give; which is faster", lambda: _compare(engine, "use_graph")),
        ("rebuild", "an engine of another board is noticed and built again", lambda: _rebuild(engine)),
        ("bench", "frames keep their speed when the board is warm", lambda: _bench(engine, sustained_s)),
    ]


# --- the steps --------------------------------------------------------------------------------------------------


def _system() -> Tuple[Dict[str, Any], str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = str(getattr(import_module(name), "__version__", "?"))
        except ImportError as error:
            versions[name] = f"not here ({type(error).__name__})"
    cv2 = require("cv2", "edgedet selftest")
    gstreamer = [line.split(":", 1)[1] for line in cv2.getBuildInformation().splitlines() if "GStreamer:" in line]
    machine = read_machine()
    return {
        "board": machine.board,
        "cpu": machine.cpu,
        "arch": machine.arch,
        "jetpack": machine.jetpack,
        "clock_mhz": clock_mhz(),
        "governor": governor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "edgedet": __version__,
        "cores": machine.cores,
        "power_mode": _said("nvpmodel", "-q"),
        "packages": versions,
        "opencv_gstreamer": gstreamer[0].strip() if gstreamer else "",
        "celsius": temperatures(),
    }, ""


def _members() -> Tuple[Dict[str, Any], str]:
    trt = import_tensorrt("edgedet selftest")
    missing = []
    for member in MEMBERS:
        kind, _, name = member.partition(".")
        if not hasattr(getattr(trt, kind, None), name):
            missing.append(member)
    reason = f"TensorRT {trt.__version__} has no {', '.join(missing)}" if missing else ""
    return {"tensorrt": str(trt.__version__), "asked": len(MEMBERS), "missing": missing}, reason


def _build(onnx: Path, engine: Path) -> Tuple[Dict[str, Any], str]:
    report = build_model(BuildRequest(onnx, engine), lambda line: print(line, file=sys.stderr))
    figures = report.to_dict()
    for key in ("onnx", "engine"):
        figures[key] = Path(figures[key]).name
    return figures, ""


def _load(engine: Path) -> Tuple[Dict[str, Any], str]:
    pixels = _pixels(engine)
    meta, running = open_engine(engine, 1)
    with closing(running):
        first = running.infer(pixels).class_logits.copy()
        running.infer(255 - pixels)
        # As `run` does: frames are inferred in a thread that did not open the engine, and has no CUDA context yet.
        with ThreadPoolExecutor(1) as thread:
            again = thread.submit(running.infer, pixels).result()
        difference = _difference(again.class_logits, first)
    reason = "" if difference <= SAME_SHARE else f"the same picture gave logits that differ by {difference:.1e}"
    return {"precision": meta.precision, "difference": difference}, reason


def _compare(engine: Path, option: str) -> Tuple[Dict[str, Any], str]:
    """Run the engine with and without an option of TrtEngine."""
    trt = import_tensorrt("edgedet selftest")
    pixels = _pixels(engine)
    p50_ms, logits = {}, []
    for value in (True, False):
        with closing(opened(trt, engine, **{option: value})) as running:
            if option == "use_graph" and value and not running.uses_graph:
                return {}, "nothing could be recorded"
            logits.append(running.infer(pixels).class_logits.copy())
            p50_ms[str(value).lower()] = float(np.median(_times_ms(running, pixels)))
    difference = _difference(*logits)
    reason = "" if difference <= SAME_SHARE else f"logits differ by {difference:.1e} of the largest"
    return {"p50_ms": p50_ms, "difference": difference}, reason


def _rebuild(engine: Path) -> Tuple[Dict[str, Any], str]:
    meta, plan = read_engine(engine)
    copy = engine.with_name(f"{engine.stem}-rebuilt{engine.suffix}")
    try:
        add_to_report(copy, meta, plan, {BUILT_ON: {**meta.report[REPORT][BUILT_ON], "tensorrt": "0.0"}})
        try:
            open_engine(copy, 1)[1].close()
            return {}, "an engine of another TensorRT was opened as it was"
        except OutdatedError:
            rebuild_model(copy)
        open_engine(copy, 1)[1].close()
        report = read_engine(copy)[0].report[REPORT]
        reason = "" if report[BUILT_ON] == meta.report[REPORT][BUILT_ON] else "it was not built again"
        return {"build_s": report["build"]["seconds"], "because": report.get("rebuilt_because", [])}, reason
    finally:
        if copy.exists():
            copy.unlink()


def _bench(engine: Path, sustained_s: float) -> Tuple[Dict[str, Any], str]:
    frames = [Frame(bgr, captured_s=0.0, index=index) for index, bgr in enumerate(demo.clip_frames(FRAMES))]
    before = temperatures()
    stages: Dict[str, List[float]] = {}
    started = time.monotonic()
    with Detector(engine) as detector:
        detector.detect(frames[0])
        count = 0
        while count < FRAMES or time.monotonic() - started < sustained_s:
            began = time.perf_counter()
            timings = detector.detect(frames[count % FRAMES]).timings_ms
            timings["end to end"] = (time.perf_counter() - began) * 1e3
            for stage, value in timings.items():
                stages.setdefault(stage, []).append(value)
            count += 1
    total = stages["end to end"]
    tenth = max(len(total) // 10, 1)
    return {
        "frames": count,
        "fps": 1e3 / float(np.mean(total)),
        "fps_first_tenth": 1e3 / float(np.mean(total[:tenth])),
        "fps_last_tenth": 1e3 / float(np.mean(total[-tenth:])),
        "ms": {
            stage: {f"p{share}": float(np.percentile(values, share)) for share in (50, 90, 99)}
            for stage, values in stages.items()
        },
        "celsius_before": before,
        "celsius_after": temperatures(),
    }, ""


# --- small things -----------------------------------------------------------------------------------------------


def _pixels(engine: Path) -> np.ndarray:
    input_hw = read_engine(engine)[0].spec.input_hw
    return np.random.default_rng(0).integers(0, 256, (1, *input_hw, 3), dtype=np.uint8)


def _times_ms(running: TrtEngine, pixels: np.ndarray) -> List[float]:
    return build_tune.measure(running, [ModelInput(pixels, 1.0, (pixels.shape[1], pixels.shape[2]))])


def _difference(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def temperatures() -> Dict[str, float]:
    """Return degrees Celsius by the kernel's name of each sensor."""
    readings = {}
    for zone in sorted(_THERMAL.glob("thermal_zone*")):
        text = _text(zone / "temp")
        if text.lstrip("-").isdigit():
            readings[_text(zone / "type") or zone.name] = int(text) / 1e3
    return readings


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:  # not on this machine; some sensors cannot be read while they are off
        return ""


def _said(*command: str) -> Optional[str]:
    """Return what a program of the board prints, None where it is not there."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, check=False)
    return done.stdout.decode("utf-8", "replace").strip()


def figures_of(steps: Sequence[Step]) -> Dict[str, Any]:
    """Return all steps for JSON."""
    return {"selftest": "board", "edgedet": __version__, "steps": [asdict(step) for step in steps]}
