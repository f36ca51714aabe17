"""Find out whether a package works: import it in a process of its own and, for an engine, run one convolution.

A package that is built for other hardware or another numpy can end the process, or compute wrong numbers silently; the
probe reports both. The convolution is small enough to be exact, so an engine must give exactly its numbers.
This module imports only the standard library, so that it can also report a broken numpy.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Callable, Dict, List, Optional

from ..child_process import run_alone
from ..engines.table import PUBLIC_ENGINES
from ..errors import DeviceError

TIMEOUT_S = 120  # a board may read TensorRT from an SD card for half a minute

# A 1 x 1 convolution over SIDE x SIDE cells of CHANNELS numbers, which are arbitrary INT8 numbers.
SIDE, CHANNELS = 8, 8
INPUT = [[(cell * CHANNELS + i) * 91 % 251 - 125 for i in range(CHANNELS)] for cell in range(SIDE * SIDE)]
WEIGHTS = [[(o * CHANNELS + i) * 37 % 255 - 127 for i in range(CHANNELS)] for o in range(CHANNELS)]
BIAS = [64 * o for o in range(CHANNELS)]
WEIGHT_SCALE, OUTPUT_SCALE = 1 / 64, 16.0  # the input's is 1; powers of two, and no sum is halfway between two integers

# scripts/make/doctor_models.py prints these: the convolution as an INT8 .tflite and as a float .onnx.
_TFLITE = (
    r"c-rG(U|<Mw^Dzce3`+n1{}%z$2Y~nlh-PMB03tA60mL3a%mT#6fa*ZB0s{m%0C59U9|I$h55x^Xe1MSw4X`nA08L<nngi0;xa{-?QLFgYRp-A*"
    r"+9h|cyZl4eDZO{o^*@Sk*%P<jW>EFYpStTli>6=k%zckJbc4$09(vAW7*@UT*lPjPsQRVIrn7({0|Pq{r>3N*rlgjDoWmdjmgQrR0I~!ac))Jp"
    r"gNn-laRm_9K>YyHpPQJO2lWbEuNaU7>E(v%m4R5vr~)K3z)UWnJU`fME~s9p_Zb-(5a9?jmkCNUBh-QIegotv0C5bIZ}sp0e~=OZAfW?M#tEWT"
    r"fZ`lrHzD*hz}XFsAi5H228hjpgv0(r%mn$Z1L_tK1!C7g&Gmt*r3QeQ(_n)SgWQ>vnOMw#<X#3~sLKFjO&l6)5Wo(O3z+*`5dP-`v2FfC-0wjp"
    r"_Y>oGP<ks*%}mcIDF%l(2U7gQ`~gaP!ax=_e}K}G1=J4~U^P5YyIH_2Jn?ML2u;7(;+YYuj|ZGG5#}MKMP>kU^<i%"
)
_ONNX = (
    r"c-nQ4AxHyJ7{|YNp6u~JIF7?&kzpFfCDVDgw7g_<V|YW*FwtAPu(&u(3x){`i^C{$L6#PcVv;4Jarpa`MIZdi@BhB<eebiSlgAx*;7smHckRwa"
    r"cGGo!vvb}JO|R^y*H^dUZYyiIE-Uw*)nlv)OtQUOFFcXWLSzOFC|*P+ry^M*@(ka&Dbye)TaxAYSNOt>p$bB_ChOx@@QEA2k@lR6__zVQ!8>jU"
    r"k=Ah{+)%ydxB>WD7gLWLX+Q0Y>%*G2gtw}=vCg6M;B#1##bh<yROi=!;4_$z6=V(E3^wqzs2p3%Mt+x8Km41hAd!?#P{0Gs;UhiMRfqd7vL+0i"
    r"XARgbO~T%PVd6Up_I?1q?qC4"
)


@dataclass(frozen=True)
class Probe:
    """Whether one package works on this machine.

    state:   "works", "missing", "broken" (it does not load or run) or "wrong" (its numbers are not right).
    reason:  why it is broken or wrong, in one line.
    file:    where it was imported from.
    off_by:  engines: largest error of the convolution's outputs, in steps of INT8 or units of the float sums.
    build:   OpenCV: its build information.
    gpu:     CUDA: name of the GPU that the driver sees.
    """

    name: str
    state: str
    version: Optional[str] = None
    file: Optional[str] = None
    reason: Optional[str] = None
    off_by: Optional[float] = None
    build: str = ""
    gpu: Optional[str] = None

    @property
    def works(self) -> bool:
        """Whether it can be used."""
        return self.state == "works"


def probe(name: str) -> Probe:
    """Try the package ``name``, one of PROBES, in a process of its own, and return whether it works."""
    if all(find_spec(package) is None for package in _PACKAGES.get(name, (name,))):
        return Probe(name, "missing")
    try:
        stdout = run_alone(main, name, timeout_s=TIMEOUT_S)
    except DeviceError as error:
        return Probe(name, "broken", reason=str(error))
    facts: Dict[str, Any] = json.loads(stdout.strip().splitlines()[-1])
    off_by = facts.get("off_by") or 0
    if off_by > _TOLERANCES.get(name, 0):
        return Probe(name, "wrong", reason=f"a convolution with known result is off by {off_by:g}", **facts)
    return Probe(name, "broken" if facts.get("reason") else "works", **facts)


def main(name: str) -> None:
    """Try the package and print a line of JSON with its version, its file, and why it fails if it does.

    It runs in a process of its own, which the package may end.
    """
    facts: Dict[str, Any] = {}
    try:
        module = import_module(_MODULES.get(name, name))
        facts["version"] = getattr(module, "__version__", None)
        facts["file"] = getattr(module, "__file__", None)
        if name in CHECKS:
            facts.update(CHECKS[name](module))
    except Exception as error:  # packages raise errors of every class, and each is the reason to report
        facts["reason"] = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}".splitlines()[0]
    print(json.dumps(facts))


def compute_sums() -> List[List[int]]:
    """Return the convolution's exact sums (SIDE x SIDE, CHANNELS), before the scale of the output."""
    return [[bias + sum(x * w for x, w in zip(cell, row)) for row, bias in zip(WEIGHTS, BIAS)] for cell in INPUT]


def _check_numpy(numpy: Any) -> Dict[str, Any]:
    return {"off_by": float(abs(numpy.array(INPUT) @ numpy.array(WEIGHTS).T + BIAS - compute_sums()).max())}


def _check_opencv(cv2: Any) -> Dict[str, Any]:
    return {"build": cv2.getBuildInformation()}


def _check_onnxruntime(onnxruntime: Any) -> Dict[str, Any]:
    import numpy as np

    session = onnxruntime.InferenceSession(_unpack(_ONNX), providers=["CPUExecutionProvider"])
    x = np.array(INPUT, np.float32).T.reshape(1, CHANNELS, SIDE, SIDE)
    y = session.run(None, {"x": x})[0].reshape(CHANNELS, -1).T
    return {"off_by": float(np.abs(y - compute_sums()).max())}


def _check_tflite(package: Any) -> Dict[str, Any]:
    import numpy as np

    library = import_module(f"{package.__name__}.interpreter")
    interpreter = library.Interpreter(model_content=_unpack(_TFLITE), num_threads=1)
    interpreter.allocate_tensors()
    x, y = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(x["index"], np.array(INPUT, np.int8).reshape(x["shape"]))
    interpreter.invoke()
    actual = interpreter.get_tensor(y["index"]).reshape(-1, CHANNELS).astype(int)
    expected = np.rint(np.array(compute_sums()) * (WEIGHT_SCALE / OUTPUT_SCALE))
    return {"off_by": int(np.abs(actual - expected).max())}


def _check_tensorrt(tensorrt: Any) -> Dict[str, Any]:
    board = import_module("edgedet.engines.tensorrt.board")
    board.import_tensorrt("running .engine files")  # refuses versions before 8.5
    return {}


def _check_cuda(trt_cuda: Any) -> Dict[str, Any]:
    cuda = trt_cuda.open_cuda()
    facts = {"version": cuda.package, "file": None, "gpu": cuda.gpu().name}
    cuda.close()
    return facts


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


# Package -> what is tried after importing it; a package without a row is only imported.
CHECKS: Dict[str, Callable[[Any], Dict[str, Any]]] = {
    "numpy": _check_numpy,
    "cv2": _check_opencv,
    "ai_edge_litert": _check_tflite,
    "tflite_runtime": _check_tflite,
    "onnxruntime": _check_onnxruntime,
    "tensorrt": _check_tensorrt,
    "cuda": _check_cuda,
}
_ENGINE_PROBES = [
    name for engine in PUBLIC_ENGINES for name in (*(package.module for package in engine.packages), *engine.needs)
]
PROBES = tuple(dict.fromkeys(["numpy", "cv2", *_ENGINE_PROBES]))
# Either of two packages gives access to the GPU; edgedet's own module chooses the one that works.
_PACKAGES = {"cuda": ("pycuda", "cuda")}
_MODULES = {"cuda": "edgedet.engines.tensorrt.cuda"}
_TOLERANCES = {"tflite_runtime": 1}  # steps of INT8: its own kernels round twice
