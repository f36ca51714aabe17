"""What an engine reaches on this machine at best: one large product and one large copy-like operator, each a model.

Run by the engine that is profiled, in its process and on its threads, so that its own kernels set the roofline
(Williams et al. 2009). Other programs that run meanwhile lower the peaks as they lower everything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 512  # 0.13 GMAC, some milliseconds: large enough for blocking, short enough to fit between other programs
COPY_BYTES = 64 << 20  # beyond the caches of boards and PCs
REPEATS = 30  # the best counts: a peak is what the machine can do


@dataclass(frozen=True)
class Peaks:
    """What one engine reaches: GMAC/s of a matrix product, GB/s read and written by a ReLU or ReLU6 of floats.

    product: the type of the product's numbers, "float32" or "int8".
    """

    gmacs_per_s: float
    gb_per_s: float
    product: str

    def roofline_ms(self, macs: int, moved: int) -> float:
        """Return the least time of an operator that does ``macs`` and moves ``moved`` bytes from and to memory."""
        return max(macs / self.gmacs_per_s, moved / self.gb_per_s) / 1e6


def measure_peaks(product: Callable[[], Any], copy: Callable[[], Any], kind: str) -> Peaks:
    """Measure both; the first runs, in which buffers are made, do not count."""
    product_s, copy_s = (min([_seconds(work) for _ in range(REPEATS + 1)][1:]) for work in (product, copy))
    return Peaks(SIDE**3 / product_s / 1e9, 2 * COPY_BYTES / copy_s / 1e9, kind)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_ort_peaks(options: Any) -> Peaks:
    """Measure onnxruntime with the given session options."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)

    def runner(kind: str, shape: list[int], *weights: np.ndarray) -> Callable[[], Any]:
        constants = [numpy_helper.from_array(value, f"w{index}") for index, value in enumerate(weights)]
        node = helper.make_node(kind, ["x", *(item.name for item in constants)], ["y"])
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
        graph = helper.make_graph([node], "peak", [x], [y], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()  # one output buffer for all runs
        binding.bind_cpu_input("x", random.random(shape, dtype=np.float32))
        out = np.empty(shape, np.float32)
        binding.bind_output("y", "cpu", 0, np.float32, shape, out.ctypes.data)
        return lambda: (session.run_with_iobinding(binding), out)

    product = runner("MatMul", [SIDE, SIDE], random.random((SIDE, SIDE), dtype=np.float32))
    return measure_peaks(product, runner("Relu", [COPY_BYTES // 4]), "float32")


def measure_tflite_peaks(threads: int, int8: bool) -> Peaks:
    """Measure LiteRT and its XNNPACK, the product in the integers of INT8 files or in floats."""
    from edgedet.benchmarks.profile.tflite_profile import open_interpreter
    from edgedet.export.tflite.builder import Scales, TfliteBuilder

    random = np.random.default_rng(0)

    def scales(scale: float, count: int = 1) -> Scales | None:
        return Scales(np.full(count, scale, np.float32)) if int8 else None

    def runner(builder: TfliteBuilder, x: int, y: int, values: np.ndarray) -> Callable[[], Any]:
        interpreter = open_interpreter(builder.finished([x], [y]), threads)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        return interpreter.invoke

    kind = np.int8 if int8 else np.float32
    values = random.integers(-127, 128, (SIDE, SIDE)).astype(kind)
    product, shape = TfliteBuilder(), (1, SIDE, 1, SIDE)
    # scales as our files have them, one for each channel of a weight; the outputs' keeps them within their range
    x, y = (product.tensor(name, shape, kind, scales(scale)) for name, scale in (("x", 1.0), ("y", 1e3 * SIDE)))
    weight = product.constant("weight", values.reshape(SIDE, 1, 1, SIDE), scales(1.0, SIDE))
    bias = product.constant("bias", np.zeros(SIDE, np.int32 if int8 else np.float32), scales(1.0, SIDE))
    product.op("CONV_2D", [x, weight, bias], [y], strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    multiply = runner(product, x, y, values.reshape(shape))
    copy = TfliteBuilder()
    x, y = (copy.tensor(name, (COPY_BYTES // 4,), np.float32) for name in "xy")
    copy.op("RELU6", [x], [y])
    return measure_peaks(multiply, runner(copy, x, y, random.random(COPY_BYTES // 4, dtype=np.float32)), kind.__name__)
