"""What the owner of a board asks: doctor, self-test, and which TensorRT engine is the best."""
