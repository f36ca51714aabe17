"""Host side: calibration frames, ranges, quantised graphs and the accuracy gate."""
