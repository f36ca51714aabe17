"""How do a source, a model and outputs become one run? Above ``stream`` and ``web``, below the commands."""
