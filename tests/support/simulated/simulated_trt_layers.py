"""A SIMULATION of TensorRT's layers and tensors: each is a node of an ONNX graph, or one of the graph's names."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from onnx import helper
from simulated_trt_base import Native, Surface

LAYER_TYPES = {"Conv": "CONVOLUTION", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Cast": "CAST"}
LAYER_TYPES.update(dict.fromkeys(("Add", "Sub", "Mul", "Div"), "ELEMENTWISE"))


def make_layers(surface: Surface) -> SimpleNamespace:
    """Return the classes of layers and tensors of a version, by their names."""
    enums = surface.enums

    class ITensor(Native):
        def __init__(self, network, value):
            self._network, self._value = network, value

        @property
        def name(self):
            return self._value

        @property
        def dtype(self):
            """Good enough for what lies between the mean's subtraction and the outputs."""
            if self._value == "top_anchors":
                return enums.DataType.INT32
            return enums.DataType["HALF" if self._network._model.opset_import[0].version >= 19 else "FLOAT"]

        @property
        def shape(self):
            (value,) = (v for v in self._network._model.graph.input if v.name == self._value)
            return tuple(-1 if d.dim_param else d.dim_value for d in value.type.tensor_type.shape.dim)

        @name.setter
        def name(self, text):
            self._network._rename(self._value, text)
            self._value = text

    class ILayer(Native):
        def __init__(self, network, node, inputs):
            self._network, self._node, self._at = network, node, inputs

        @property
        def type(self):
            kind = LAYER_TYPES.get(self._node.op_type, "SHUFFLE")
            return enums.LayerType[kind if kind in enums.LayerType.__members__ else "IDENTITY"]  # a cast before 8.6

        @property
        def name(self):
            return self._node.name

        @name.setter
        def name(self, text):
            self._node.name = text

        @property
        def num_inputs(self):
            return len(self._at)

        @property
        def num_outputs(self):
            return len(self._node.output)

        def get_input(self, index):
            return ITensor(self._network, self._node.input[self._at[index]])

        def get_output(self, index):
            return ITensor(self._network, self._node.output[index])

        def set_input(self, index, tensor):
            self._node.input[self._at[index]] = tensor._value

    class IConstantLayer(ILayer):
        """Its node is a stand-in that is not written."""

        type = enums.LayerType.CONSTANT

        @property
        def weights(self):
            return self._network._constants[self._node.output[0]].reshape(-1)

        @weights.setter
        def weights(self, values):
            name = self._node.output[0]
            self._network._constants[name] = values.reshape(self._network._constants[name].shape)

        @property
        def shape(self):
            return self._network._constants[self._node.output[0]].shape

    class Weights(Native):
        """Only the empty ones."""

    class IQuantizeLayer(ILayer):
        @property
        def axis(self):
            return self._node.attribute[0].i

        @axis.setter
        def axis(self, axis):
            self._node.attribute.append(helper.make_attribute("axis", axis))
            self._network._give_zero_points(self._node)

    class IDequantizeLayer(IQuantizeLayer):
        pass

    class IConvolutionLayer(ILayer):
        def _attribute(self, name, default):
            return next((helper.get_attribute_value(a) for a in self._node.attribute if a.name == name), default)

        def _set_attribute(self, name, value):
            kept = [attribute for attribute in self._node.attribute if attribute.name != name]
            del self._node.attribute[:]
            self._node.attribute.extend([*kept, helper.make_attribute(name, value)])

        def _set_pads(self, which, value):
            pads = list(self._attribute("pads", [0] * 4))
            pads[which] = value
            self._set_attribute("pads", pads)

        stride_nd, dilation_nd, num_groups = (
            property(
                lambda self, name=name, default=default: self._attribute(name, default),
                lambda self, value, name=name: self._set_attribute(name, value),
            )
            for name, default in (("strides", [1, 1]), ("dilations", [1, 1]), ("group", 1))
        )
        pre_padding, post_padding = (
            property(
                lambda self, which=which: self._attribute("pads", [0] * 4)[which],
                lambda self, value, which=which: self._set_pads(which, value),
            )
            for which in (slice(0, 2), slice(2, 4))  # of ONNX's pads
        )

        def _weight_shape(self):
            """Also of weights behind Q/DQ: the layer was made with their shape."""
            made = {name: layer._node for layer in self._network._layers for name in layer._node.output}
            name = self._node.input[1]
            while name not in self._network._constants:
                name = made[name].input[0]
            return self._network._constants[name].shape

        @property
        def kernel_size_nd(self):
            return self._weight_shape()[2:]

        @property
        def num_output_maps(self):
            return self._weight_shape()[0]

        @property
        def kernel(self):
            return self._network._constants[self._node.input[1]].reshape(-1)

        @kernel.setter
        def kernel(self, values):
            name = self._node.input[1]
            self._network._constants[name] = values.reshape(self._network._constants[name].shape)

        @property
        def bias(self):
            return (
                self._network._constants[self._node.input[2]] if len(self._node.input) > 2 else np.zeros(0, np.float32)
            )

        @bias.setter
        def bias(self, values):
            if values.size:
                self._network._constants[self._node.input[2]] = values

    return SimpleNamespace(
        ITensor=ITensor,
        ILayer=ILayer,
        IConstantLayer=IConstantLayer,
        Weights=Weights,
        IQuantizeLayer=IQuantizeLayer,
        IDequantizeLayer=IDequantizeLayer,
        IConvolutionLayer=IConvolutionLayer,
    )
