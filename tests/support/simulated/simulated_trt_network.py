"""A SIMULATION of TensorRT's network and of its ONNX parser: an ONNX graph that the layers' calls edit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from simulated_driver import fault
from simulated_trt_base import Native, Surface


def make_network(surface: Surface, layers: SimpleNamespace) -> SimpleNamespace:
    """Return the classes that make and hold a network of a version's layers, by their names."""
    version, enums = surface.version, surface.enums

    class WideConstant(layers.ILayer):
        """As ``get_layer`` gives it: an ILayer until it is narrowed by ``__class__``."""

        type = enums.LayerType.CONSTANT

    class INetworkDefinition(Native):
        def __init__(self, typed):
            self._typed, self._layers, self._constants, self._model, self._outputs = typed, [], {}, None, []

        def _load(self, model):
            self._model = model
            self._outputs = [value.name for value in model.graph.output]
            self._constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
            kernels = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
            for name in self._constants.keys() - kernels:  # a convolution holds its own
                self._layers.append(WideConstant(self, onnx.NodeProto(name=name, output=[name]), []))
            for node in model.graph.node:
                inputs = [i for i, name in enumerate(node.input) if name not in kernels & self._constants.keys()]
                self._layers.append(layers.ILayer(self, node, inputs))

        @property
        def num_layers(self):
            return len(self._layers)

        def get_layer(self, index):
            return self._layers[index]

        def add_constant(self, shape, weights):
            if version.startswith("8.") and weights.dtype == np.int8:
                raise TypeError("constant: invalid weights type of Int8")  # add_constant gives None, its user fails
            name = f"added.{len(self._layers)}"
            self._constants[name] = weights.reshape(shape)
            self._layers.append(layers.IConstantLayer(self, onnx.NodeProto(name=name, output=[name]), []))
            return self._layers[-1]

        def add_cast(self, tensor, kind):
            to = {"HALF": TensorProto.FLOAT16, "FLOAT": TensorProto.FLOAT}[kind.name]
            name = f"added.{len(self._layers)}"
            node = self._model.graph.node.add()
            node.CopyFrom(helper.make_node("Cast", [tensor._value], [name], name=name, to=to))
            self._layers.append(layers.ILayer(self, node, [0]))
            return self._layers[-1]

        def _add(self, kind, op_type, inputs, at):
            name = f"added.{len(self._layers)}"
            node = self._model.graph.node.add()
            node.CopyFrom(helper.make_node(op_type, inputs, [name], name=name))
            self._layers.append(kind(self, node, at))
            return self._layers[-1]

        def _quantiser(self, kind, op_type, tensor, scale, output_type):
            typed = "INT8" not in enums.BuilderFlag.__members__
            assert len(output_type) <= (0 if version.startswith("8.") else 1), "two tensors in 8.x"
            assert len(output_type) == 1 or not typed, "and an output type where typing is strong"
            self._constants["added.zero"] = np.zeros((), np.int8)  # without it, ONNX quantises to uint8
            zero = ["added.zero"] if op_type == "QuantizeLinear" else []
            return self._add(kind, op_type, [tensor._value, scale._value, *zero], [0, 1])

        def _give_zero_points(self, node):
            """ONNX wants as many zero points as scales, for integers to be signed."""
            if node.op_type == "QuantizeLinear":
                count = self._constants[node.input[1]].shape
                self._constants[f"{node.name}.zeros"] = np.zeros(count, np.int8)
                node.input[2] = f"{node.name}.zeros"

        def add_quantize(self, tensor, scale, *output_type):
            return self._quantiser(layers.IQuantizeLayer, "QuantizeLinear", tensor, scale, output_type)

        def add_dequantize(self, tensor, scale, *output_type):
            return self._quantiser(layers.IDequantizeLayer, "DequantizeLinear", tensor, scale, output_type)

        def add_convolution_nd(self, tensor, maps, kernel_shape, kernel, bias):
            assert isinstance(kernel, layers.Weights)
            inputs = [tensor._value, ""]
            if not isinstance(bias, layers.Weights):
                self._constants[f"bias.{len(self._layers)}"] = np.asarray(bias)
                inputs.append(f"bias.{len(self._layers)}")
            return self._add(layers.IConvolutionLayer, "Conv", inputs, [0, 1])

        @property
        def num_outputs(self):
            return len(self._outputs)

        def get_input(self, index):
            return layers.ITensor(self, self._model.graph.input[index].name)

        def get_output(self, index):
            return layers.ITensor(self, self._outputs[index])

        def unmark_output(self, tensor):
            self._outputs.remove(tensor._value)

        def mark_output(self, tensor):
            self._outputs.append(tensor._value)

        def _rename(self, old, new):
            for layer in self._layers:
                for names in (layer._node.input, layer._node.output):
                    names[:] = [new if name == old else name for name in names]

        def _written(self):
            """The network as it was edited, as an ONNX file: nodes sorted, unused ones left out."""
            made = {name: layer._node for layer in self._layers for name in layer._node.output}
            order, done = [], set()

            def visit(name):
                node = made.get(name)
                if node is None or node.name in done:
                    return
                done.add(node.name)
                for read in node.input:
                    visit(read)
                order.append(node)

            for name in self._outputs:
                visit(name)
            result = onnx.ModelProto()
            result.CopyFrom(self._model)
            del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
            result.graph.node.extend(node for node in order if node.op_type)
            used = {name for node in order for name in (*node.input, *node.output)}
            result.graph.initializer.extend(
                numpy_helper.from_array(np.asarray(array), name)
                for name, array in self._constants.items()
                if name in used
            )
            return result

    class ParserError(Native):
        def __init__(self, text):
            self._text = text

        def desc(self):
            return self._text

    class OnnxParser(Native):
        def __init__(self, network, log):
            self._network, self._errors = network, []

        def parse(self, data):
            model = onnx.load_from_string(data)
            opset = model.opset_import[0].version
            if fault() == "parse" or (version.startswith("8.") and opset > 17):
                self._errors.append(ParserError(f"No importer registered for op in opset {opset}"))
                return False
            integers = {item.name for item in model.graph.initializer if item.data_type == TensorProto.INT8}
            dequantised = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
            if version.startswith("8.") and integers & dequantised:  # zero points are INT8, and become float
                self._errors.append(ParserError(f"{min(integers & dequantised)}: invalid weights type of Int8"))
                return False
            self._network._load(model)
            return True

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

    return SimpleNamespace(INetworkDefinition=INetworkDefinition, ParserError=ParserError, OnnxParser=OnnxParser)
