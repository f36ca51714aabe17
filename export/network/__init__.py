"""EfficientDet in PyTorch, as it was trained."""
