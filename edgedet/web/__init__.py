"""The live page of ``edgedet run --web``: picture, figures, metrics and health for browsers and programs."""
