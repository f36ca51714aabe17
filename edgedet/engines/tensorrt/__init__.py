"""TensorRT: ONNX file to engine on the board that runs it, and the engine itself."""
