"""What does a model file or a checkpoint hold? Read without running it."""
