"""Files that other programs run as they are: MediaPipe, Frigate, DeepStream, Triton. Each target is a module here."""
