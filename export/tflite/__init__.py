"""Fused ONNX graph to a .tflite file, float32 or INT8."""
