"""A small ONNX file with the inputs and outputs of an export, for tests that open one."""

from __future__ import annotations

import numpy as np
import pytest
from media import META

from edgedet.artifact import META_KEY

NUM_ANCHORS = 9 * (16**2 + 8**2 + 4**2 + 2**2 + 1)  # of a 128 x 128 input
OUR_META = META.to_json()


def write_onnx(path, num_classes=2, metadata=OUR_META, input_name="pixels", input_hw=(128, 128)):
    """Write a network whose logits are all the mean of the pixels, and whose box codes are all 0.5."""
    onnx = pytest.importorskip("onnx", reason="writing a small network needs onnx")
    from onnx import TensorProto, helper, numpy_helper

    logits = np.zeros((1, NUM_ANCHORS, num_classes), np.float32)
    codes = np.full((1, NUM_ANCHORS, 4), 0.5, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [input_name], ["values"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["values"], ["mean"], keepdims=0),
            helper.make_node("Add", ["zeros", "mean"], ["class_logits"]),
            helper.make_node("Identity", ["codes"], ["box_codes"]),
        ],
        "mean",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, [1, *input_hw, 3])],
        [
            helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, logits.shape),
            helper.make_tensor_value_info("box_codes", TensorProto.FLOAT, codes.shape),
        ],
        [numpy_helper.from_array(logits, "zeros"), numpy_helper.from_array(codes, "codes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {META_KEY: metadata})
    onnx.save(model, str(path))
    return path
