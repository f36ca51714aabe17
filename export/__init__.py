"""Host side: checkpoint -> network -> fused ONNX -> verified artefact."""
