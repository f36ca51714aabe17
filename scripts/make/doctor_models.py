"""Print the two little models of edgedet/board/probe.py: one 1 x 1 convolution of its numbers, as ONNX and as TFLite.

python scripts/make/doctor_models.py
"""

import base64
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.board.probe import BIAS, CHANNELS, OUTPUT_SCALE, SIDE, WEIGHT_SCALE, WEIGHTS
from edgedet.export.tflite.builder import Scales, TfliteBuilder

OPSET = 13  # of 2020, which every onnxruntime in use knows


def int8_tflite() -> bytes:
    """Return the convolution with INT8 in and out; the input's scale is 1."""
    builder = TfliteBuilder()
    shape = (1, SIDE, SIDE, CHANNELS)
    scales = Scales(np.full(CHANNELS, WEIGHT_SCALE, np.float32))
    x = builder.tensor("x", shape, np.int8, Scales(np.ones(1, np.float32)))
    weights = builder.constant("weights", np.array(WEIGHTS, np.int8).reshape(CHANNELS, 1, 1, CHANNELS), scales)
    bias = builder.constant("bias", np.array(BIAS, np.int32), scales)
    y = builder.tensor("y", shape, np.int8, Scales(np.array([OUTPUT_SCALE], np.float32)))
    builder.op(
        "CONV_2D", [x, weights, bias], [y], padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1
    )
    return builder.finished([x], [y])


def float_onnx() -> bytes:
    """Return the convolution in float32, whose sums are integers and therefore exact."""
    shape = (1, CHANNELS, SIDE, SIDE)
    weights = numpy_helper.from_array(np.array(WEIGHTS, np.float32).reshape(CHANNELS, CHANNELS, 1, 1), "weights")
    bias = numpy_helper.from_array(np.array(BIAS, np.float32), "bias")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weights", "bias"], ["y"])], "check", ends[:1], ends[1:], [weights, bias]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    for name, data in (("_TFLITE", int8_tflite()), ("_ONNX", float_onnx())):
        text = base64.b85encode(zlib.compress(data, 9)).decode()
        print(f"{name} = (")
        for start in range(0, len(text), 110):
            print(f'    r"{text[start : start + 110]}"')
        print(")")
