"""Inference engines, one module each; opened by the file suffix table in base."""
