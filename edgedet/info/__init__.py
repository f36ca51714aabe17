"""Describe model files and checkpoints without running them."""
