"""The fused float graph: running it in PyTorch, counting its work, finding where detections come from."""
