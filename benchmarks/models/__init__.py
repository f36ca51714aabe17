"""The model files that are measured where the user names none: exported, with random weights, in INT8 unjudged."""
