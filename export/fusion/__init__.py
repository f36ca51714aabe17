"""Network in PyTorch to one fused float ONNX graph."""
