"""The metadata that edgedet keeps inside each model file: all that a device needs in order to use the file.

An ONNX file carries it as ``metadata_props["edgedet"]``; for other formats, see the module of their engine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, Tuple

import numpy as np

from .errors import ArtifactError, InputError
from .files import parse_json
from .postprocess import DEFAULT_RULES, NmsRules, rules_from_dict
from .specs import DetectorSpec

META_KEY = "edgedet"
FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)  # 1, of edgedet 0.1, has no rules of post-processing, and a count in place of the anchor scales
ALL_OUTPUTS = ("class_logits", "box_codes")  # of a graph that keeps all anchors
TOP_OUTPUTS = ("top_logits", "top_codes", "top_anchors")  # of one that keeps the best
MAX_META_BYTES = 4 << 20  # a file that claims more metadata than this is not ours
MOST_BATCH = 16  # pictures at once; each count is an optimisation profile of an engine, with kernels and memory
_KINDS = (
    ("precision", str),
    ("source_sha256", str),
    ("top_anchors", int),
    ("max_batch", int),
    ("versions", dict),
    ("report", dict),
)


@dataclass(frozen=True)
class ArtifactMeta:
    """All that a device must know about a model file.

    spec:          the detector's structure, input size, anchors, normalisation and fill.
    class_names:   one per class id, in order.
    precision:     "fp32", "fp16" or "int8".
    source_sha256: of the checkpoint that the file was made from.
    input_layout:  "uint8 NHWC BGR": camera bytes; normalisation is in the graph.
    outputs:       names in the order (class logits, box codes), and the anchors' numbers where ``top_anchors`` says so.
    nms:           how the outputs become detections.
    versions:      of edgedet and of the packages that wrote the file.
    report:        figures of the verification, the accuracy gate and other checks, as they were printed.
    top_anchors:   0: the outputs have a row for each anchor. Otherwise they have this many rows, one for each of the
                   anchors with the highest logits of any class, and a third output gives these anchors' numbers.
    max_batch:     the graph takes from 1 to this many pictures at once.
    """

    spec: DetectorSpec
    class_names: Tuple[str, ...]
    precision: str
    source_sha256: str
    input_layout: str = "uint8 NHWC BGR"
    outputs: Tuple[str, ...] = ALL_OUTPUTS
    nms: NmsRules = DEFAULT_RULES
    versions: Dict[str, str] = field(default_factory=dict)
    report: Dict[str, Any] = field(default_factory=dict)
    top_anchors: int = 0
    max_batch: int = 1

    def __post_init__(self) -> None:
        if len(self.class_names) != self.spec.num_classes:
            raise ArtifactError(
                f"the model has {self.spec.num_classes} classes, but {len(self.class_names)} names were given: give "
                "one name for each class."
            )
        if self.top_anchors and not 0 < self.top_anchors < self.spec.num_anchors:
            raise ArtifactError(
                f"the model has {self.spec.num_anchors} anchors, so it cannot give the best {self.top_anchors} of "
                "them: export it again with a smaller --top-anchors."
            )
        if not 1 <= self.max_batch <= MOST_BATCH:
            raise ArtifactError(f"a model takes 1 to {MOST_BATCH} pictures at once; got {self.max_batch}.")

    def with_top_anchors(self, count: int) -> ArtifactMeta:
        """Return the same model's metadata for a graph that keeps ``count`` anchors; 0 keeps all of them."""
        few = 0 < count < self.spec.num_anchors
        return replace(self, top_anchors=count if few else 0, outputs=TOP_OUTPUTS if few else ALL_OUTPUTS)

    def output_arrays(self) -> Dict[str, Tuple[Any, Tuple[int, ...]]]:
        """Return name -> (numpy type, shape without the batch) of each output of an ONNX or TensorRT model."""
        rows, classes = self.top_anchors or self.spec.num_anchors, self.spec.num_classes
        kinds = (np.float32, (rows, classes)), (np.float32, (rows, 4)), (np.int32, (rows,))
        return dict(zip(self.outputs, kinds))

    def to_json(self) -> str:
        """Return one line of JSON."""
        values = asdict(self)
        values["format"] = FORMAT_VERSION
        return json.dumps(values, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ArtifactMeta:
        """Parse the text of ``to_json``; raises ArtifactError where it is damaged or written by a newer edgedet."""
        if len(text) > MAX_META_BYTES:
            raise ArtifactError(
                f"the model's metadata is {len(text)} bytes long, but at most {MAX_META_BYTES} are expected: export "
                "it again."
            )
        try:
            values = parse_json(text)
            version = values.pop("format")
            if version not in READ_VERSIONS:
                raise ArtifactError(
                    f"the model was written in format {version}, this edgedet reads {READ_VERSIONS[-1]} and older: "
                    "export it again, or install the edgedet that wrote it."
                )
            spec = DetectorSpec.from_dict(values.pop("spec"))
            names = tuple(str(name) for name in values.pop("class_names"))
            outputs = tuple(str(name) for name in values.pop("outputs"))
            nms = rules_from_dict(values.pop("nms", None))
            for key, kind in _KINDS:
                if not isinstance(values.get(key, kind()), kind):
                    raise ArtifactError(f"{key} is {str(values[key])[:50]}")
            return ArtifactMeta(spec=spec, class_names=names, outputs=outputs, nms=nms, **values)
        except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise ArtifactError(f"the model's edgedet metadata is damaged ({error}): export it again.") from None
