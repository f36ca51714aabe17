"""May a model file take the float model's place? Its accuracy against the float model's, with labels and without."""
