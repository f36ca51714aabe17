"""Measurements behind the documents; run from a checkout, no part of an installation."""
