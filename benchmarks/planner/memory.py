"""Megabytes that a process needs for one variant."""

from __future__ import annotations

from functools import cache

import numpy as np

from edgedet.benchmarks.planner.boards import read_published_memory
from edgedet.benchmarks.planner.costs import find_costs, find_own_side
from edgedet.benchmarks.profile.layer_costs import BYTES
from edgedet.specs import resized, spec_for

# What the process takes besides the network. TensorRT: CUDA and its libraries, by NetsPresso's table (about 690 on
# JetPack 4.6, 890 on Xavier, 300 on JetPack 5.0.1). Else Python, numpy and OpenCV: 61 before a model is opened.
PROCESS_MB = {"trt": 900.0, "tflite": 65.0, "ort": 65.0}
# onnxruntime 1.32 here, D0, D2 and D4, zeros as a picture, without the process: 200, 474 and 1,207 MB, which is twice
# the weights and 4.6 to 5.4 times the activations alive at one time.
ORT_FACTORS = (2.0, 5.4, 0.0)
_BOX_CODES = 4


def estimate_memory_mb(variant: str, side: int, precision: str, engine: str) -> float:
    """Return what the process needs, in MB (1e6 bytes): its own, weights, activations and outputs."""
    return PROCESS_MB[engine] + float(np.dot(factors_of(engine), _split_mb(variant, side, precision)))


def factors_of(engine: str) -> tuple[float, ...]:
    """Return what to multiply weights, activations alive at one time and float outputs by.

    Fitted on published footprints: LiteRT keeps a file and a packed copy of its weights, and outputs count several
    times in both engines, because those figures are of graphs that end in an NMS. Ours do not, so this errs upwards.
    """
    return ORT_FACTORS if engine == "ort" else _fit_factors(engine)


def compute_memory_errors(engine: str) -> list[float]:
    """Return (fitted - published) / published of an engine's footprints."""
    return [
        float(np.dot(_fit_factors(engine), _split_mb(variant, find_own_side(variant), precision)) / mb - 1)
        for variant, precision, mb in read_published_memory(engine)
    ]


@cache
def _fit_factors(engine: str) -> tuple[float, ...]:
    footprints = read_published_memory(engine)
    parts = np.array([_split_mb(variant, find_own_side(variant), precision) for variant, precision, _ in footprints])
    published_mb = np.array([mb for _, _, mb in footprints])
    return tuple(
        float(x) for x in np.linalg.lstsq(parts / published_mb[:, None], np.ones(len(footprints)), rcond=None)[0]
    )


def _split_mb(variant: str, side: int, precision: str) -> tuple[float, float, float]:
    """Return weights and activations in the precision, and the outputs in float."""
    costs = find_costs(variant, side)
    spec = resized(spec_for(f"tf_efficientdet_{variant}"), (side, side))
    anchors = sum(h * w for h, w in spec.level_sizes()) * spec.anchors_per_cell
    outputs = anchors * (spec.num_classes + _BOX_CODES)
    return (
        costs.parameters * BYTES[precision] / 1e6,
        costs.peak_elements * BYTES[precision] / 1e6,
        outputs * BYTES["fp32"] / 1e6,
    )
