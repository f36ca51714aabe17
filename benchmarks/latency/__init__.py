"""How long a model takes on this machine, stage by stage, and under which conditions."""
