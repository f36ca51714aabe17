"""Frames to a range of values for every tensor."""
