"""Which detections of successive frames are the same object? ByteTrack, and the assignment that it needs."""
