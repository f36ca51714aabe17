"""Compare the outputs of a written model file with those of the network that it came from, on real frames.

The reference is the network in float64. How far the network itself is from that in float32 is what rounding costs in
this network on these frames; a file may be a few times as far (docs/decisions/0018-verification.md).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedet.engines.base import Engine, open_engine
from edgedet.errors import VerificationError
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec
from edgedet.types import RawOutputs

if TYPE_CHECKING:
    import torch

    from edgedet.export.network.efficientdet import EfficientDet

ROUNDING_FACTOR = 10.0  # times the rounding error of the network in float32, where that is the larger tolerance
LEAST_TOLERANCE = 1e-4  # of the largest magnitude; engines sum in orders of their own (docs/decisions)
MOST_TOLERANCE = 1e-3  # where float32 rounds more than this, nothing can be told from it
FRAMES = 3  # of the demo clip


@dataclass(frozen=True)
class Difference:
    """Largest difference of each output from the network in float64, as a share of its largest magnitude.

    rounding:  the larger difference of the network itself in float32.
    tolerance: what the file may differ.
    """

    class_logits: float
    box_codes: float
    frames: int
    rounding: float = 0.0
    tolerance: float = LEAST_TOLERANCE

    @property
    def worst(self) -> float:
        """The larger difference of the two."""
        return max(self.class_logits, self.box_codes)


def network_input(pixels: np.ndarray, spec: DetectorSpec) -> torch.Tensor:
    """Normalise camera bytes (1, H, W, 3) BGR to the network's (1, 3, H, W) RGB float32."""
    import torch

    return _normalised(pixels, spec, torch.float32)


def _normalised(pixels: np.ndarray, spec: DetectorSpec, dtype: torch.dtype) -> torch.Tensor:
    import torch

    rgb = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2).to(dtype) / 255
    mean, std = (torch.tensor(values, dtype=dtype).reshape(1, 3, 1, 1) for values in (spec.mean_rgb, spec.std_rgb))
    return (rgb - mean) / std


def measure_difference(path: Path, network: EfficientDet, frames_bgr: list[np.ndarray], threads: int) -> Difference:
    """Run the file, and the network in float32 and float64, on the same pre-processed frames, and compare outputs.

    Raises VerificationError where the network's weights are all equal or its logits the same everywhere: there is
    nothing to compare.
    """
    import torch

    meta, engine = open_engine(path, threads)
    preprocess = Preprocessor(meta.spec)
    exact = copy.deepcopy(network).double()
    worst = {"class_logits": 0.0, "box_codes": 0.0}
    rounding, varies = 0.0, False
    with engine, torch.inference_mode():
        pictures = [preprocess(bgr).pixels.copy() for bgr in frames_bgr]
        raws = []
        for first in range(0, len(pictures), meta.max_batch):  # together, where the file takes several
            raws += _infer_copies(engine, np.concatenate(pictures[first : first + meta.max_batch]))
        for pixels, raw in zip(pictures, raws, strict=True):
            references = exact(_normalised(pixels, meta.spec, torch.float64))
            rounded = network(network_input(pixels, meta.spec))
            outputs = (raw.class_logits, raw.box_codes)
            for name, reference, own, output in zip(worst, references, rounded, outputs, strict=True):
                worst[name] = max(worst[name], _share(output, reference[0].numpy(), raw.anchor_ids))
                rounding = max(rounding, _share(own[0].numpy(), reference[0].numpy()))
            logits = references[0][0]
            if raw.anchor_ids is not None:
                worst["class_logits"] = max(worst["class_logits"], _left_out(logits.numpy(), raw.anchor_ids))
            varies = varies or bool((logits.amax(0) > logits.amin(0)).any())
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    if not varies or all(bool((kernel == kernel.flatten()[0]).all()) for kernel in kernels):
        raise VerificationError(
            "the network's weights are empty or all equal, or its scores are the same everywhere: nothing can be "
            "verified. The file was removed; use a checkpoint that was trained."
        )
    tolerance = min(max(ROUNDING_FACTOR * rounding, LEAST_TOLERANCE), MOST_TOLERANCE)
    return Difference(**worst, frames=len(frames_bgr), rounding=rounding, tolerance=tolerance)


def _infer_copies(engine: Engine, pixels: np.ndarray) -> list[RawOutputs]:
    """Return raw outputs that the next call does not overwrite."""
    return [
        replace(raw, class_logits=raw.class_logits.copy(), box_codes=raw.box_codes.copy())
        for raw in engine.infer_batch(pixels)
    ]


def _share(output: np.ndarray, reference: np.ndarray, anchor_ids: np.ndarray | None = None) -> float:
    """Return the largest difference as a share of the reference's largest magnitude; infinite for NaN.

    anchor_ids: of the output's rows, where it has not all of them.
    """
    rows = reference if anchor_ids is None else reference[anchor_ids]
    error = float(np.abs(rows - output).max() / max(float(np.abs(reference).max()), 1e-12))
    return error if np.isfinite(error) else np.inf


def _left_out(logits: np.ndarray, anchor_ids: np.ndarray) -> float:
    """Return by how much the best of the anchors that were left out is above the worst of those kept, as ``_share``."""
    best = logits.max(1)
    left_out = np.delete(best, anchor_ids)
    if len(np.unique(anchor_ids)) < len(anchor_ids):
        return np.inf
    excess = float(left_out.max() - best[anchor_ids].min())
    return max(excess, 0.0) / max(float(np.abs(logits).max()), 1e-12)


def verify(path: Path, network: EfficientDet, frames_bgr: list[np.ndarray], threads: int) -> Difference:
    """Return how far the file's outputs are from the network's; raises VerificationError beyond the tolerance."""
    difference = measure_difference(path, network, frames_bgr, threads)
    if not difference.worst <= difference.tolerance:
        raise VerificationError(
            f"the written file does not do what the checkpoint does: outputs differ by {difference.worst:.1e} of their "
            f"largest value on {difference.frames} frames, at most {difference.tolerance:.1e} is allowed, where "
            f"float32 rounds by {difference.rounding:.1e}. The file was removed; please report it with the "
            "checkpoint's name."
        )
    return difference
