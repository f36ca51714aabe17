"""Host side: checkpoint -> network -> fused ONNX -> verified artefact. Called, it is ``edgedet.export_model``."""

from edgedet import make_callable

make_callable(__name__)
