"""Host side: which integers stand for which values? Calibration frames, ranges and quantised graphs."""
