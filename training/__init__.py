"""Labelled pictures to a trained checkpoint, float or INT8. Host code; installs as edgedet.training."""
