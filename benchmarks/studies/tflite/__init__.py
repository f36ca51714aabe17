"""Studies of .tflite files: agreement with the Q/DQ reference, parts, instructions."""
