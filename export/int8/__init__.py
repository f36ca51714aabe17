"""Float ONNX file to INT8 files that passed the accuracy gate."""
