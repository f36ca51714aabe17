"""How do other programs ask a model for boxes? One module a protocol; above the detector, below the commands."""
