"""Write Q/DQ ONNX graphs by a plan, which says how each tensor is quantised."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedet.calibration.placement.plan import (
    CENTRED,
    SAME_SCALE,
    DensePlan,
    QuantisedConv,
    QuantParams,
    SparsePlan,
    choose_centre,
    find_quantised_inputs,
)
from edgedet.specs import DetectorSpec


class _Rewriter:
    """Copies a float graph and puts quantisers behind values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.constants = {item.name: item for item in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, array: np.ndarray | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def quantiser(self, name: str, q: QuantParams) -> str:
        """Append Q and DQ behind value ``name`` and return the dequantised value's name."""
        scale = self.constant(f"{name}.scale", np.float32(q.scale))
        zero = self.constant(f"{name}.zero_point", np.int8(q.zero_point))
        self.nodes.append(
            helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.int8"], name=f"{name}.quantize")
        )
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}.int8", scale, zero], [f"{name}.q"], name=f"{name}.dequantize"
            )
        )
        return f"{name}.q"

    def integer_conv(self, node: onnx.NodeProto, q: QuantisedConv, as_floats: bool) -> None:
        """Give a Conv node its integer weights, dequantised per output channel, and its float bias.

        as_floats: write what the integers stand for, and a Q/DQ pair that gives those very integers again.
        """
        scales = self.constant(f"{node.name}.weight.scales", q.scales)
        zeros = self.constant(f"{node.name}.weight.zeros", np.zeros(len(q.scales), np.int8))
        integers, output = f"{node.name}.weight.int8", f"{node.name}.weight.q"
        if as_floats:
            weight = self.constant(f"{node.name}.weight", q.weight * q.scales[:, None, None, None])
            name = f"{node.name}.weight.quantize"
            self.nodes.append(
                helper.make_node("QuantizeLinear", [weight, scales, zeros], [integers], name=name, axis=0)
            )
        else:
            self.constant(integers, q.weight)
        self.nodes.append(
            helper.make_node("DequantizeLinear", [integers, scales, zeros], [output], name=output, axis=0)
        )
        del node.input[1:]
        node.input.append(output)
        if q.bias is not None:
            node.input.append(self.constant(f"{node.name}.bias", q.bias))

    def finish(self) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input}
        graph = self.model.graph
        del graph.node[:], graph.value_info[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(item for name, item in self.constants.items() if name in used)
        onnx.checker.check_model(self.model, full_check=True)
        return self.model


def make_dense_graph(model: onnx.ModelProto, spec: DetectorSpec, plan: DensePlan) -> onnx.ModelProto:
    """Return the full-INT8 graph in Q/DQ form: TFLite's arithmetic, in floats between Q and DQ."""
    rewriter = _Rewriter(model)
    renamed: dict[str, str] = {}
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.output[0] == CENTRED:
            node.input[1] = rewriter.constant("centre", np.float32(choose_centre(spec)))
        if node.name in plan.convs:
            rewriter.integer_conv(node, plan.convs[node.name], as_floats=False)
        rewriter.nodes.append(node)
        name = node.output[0]
        moves = node.op_type in SAME_SCALE and original.input[0] in plan.tensors  # integers pass: nothing to round
        if name in plan.tensors and not moves:
            renamed[name] = rewriter.quantiser(name, plan.tensors[name])
    return rewriter.finish()


def make_sparse_graph(model: onnx.ModelProto, plan: SparsePlan) -> onnx.ModelProto:
    """Return the graph with Q/DQ where TensorRT fuses them: before convolutions and on the inputs of sums.

    Weights are float and have a Q/DQ pair, because TensorRT 8 takes no INT8 constants (its Developer Guide, Working
    with INT8, "Quantized Weights"; "invalid weights type of Int8" in microsoft/onnxruntime#11535). Later versions take
    both forms.
    """
    rewriter = _Rewriter(model)
    quantised: set[str] = set()
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        for index in find_quantised_inputs(original, plan):
            name = original.input[index]
            if name not in quantised:
                rewriter.quantiser(name, plan.tensors[name])
                quantised.add(name)
            node.input[index] = f"{name}.q"
        if node.name in plan.convs:
            rewriter.integer_conv(node, plan.convs[node.name], as_floats=True)
        rewriter.nodes.append(node)
    return rewriter.finish()
