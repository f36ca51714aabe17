"""Compare the outputs of a written model file with those of the network that it came from, on real frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedet.engines.base import open_engine
from edgedet.errors import VerificationError
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec

if TYPE_CHECKING:
    import torch

    from edgedet.export.network.efficientdet import EfficientDet

TOLERANCE = 1e-4  # of the largest magnitude of an output; float32 rounding is seen at 2e-5
FRAMES = 3  # of the demo clip


@dataclass(frozen=True)
class Difference:
    """Largest difference of each output, as a share of its largest magnitude."""

    class_logits: float
    box_codes: float
    frames: int

    @property
    def worst(self) -> float:
        """The larger difference of the two."""
        return max(self.class_logits, self.box_codes)


def network_input(pixels: np.ndarray, spec: DetectorSpec) -> torch.Tensor:
    """Normalise camera bytes (1, H, W, 3) BGR to the network's (1, 3, H, W) RGB float32."""
    import torch

    rgb = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (spec.mean_rgb, spec.std_rgb))
    return (rgb - mean) / std


def measure_difference(path: Path, network: EfficientDet, frames_bgr: list[np.ndarray], threads: int) -> Difference:
    """Run the file and the network on the same pre-processed frames, and return how far their outputs differ."""
    import torch

    meta, engine = open_engine(path, threads)
    preprocess = Preprocessor(meta.spec)
    worst = {"class_logits": 0.0, "box_codes": 0.0}
    with engine:
        for bgr in frames_bgr:
            pixels = preprocess(bgr).pixels
            raw = engine.infer(pixels)
            with torch.inference_mode():
                expected = network(network_input(pixels, meta.spec))
            for name, tensor, output in zip(worst, expected, (raw.class_logits, raw.box_codes), strict=True):
                reference = tensor[0].numpy()
                error = float(np.abs(reference - output).max() / max(float(np.abs(reference).max()), 1e-12))
                worst[name] = max(worst[name], error) if np.isfinite(error) else np.inf
    return Difference(**worst, frames=len(frames_bgr))


def verify(path: Path, network: EfficientDet, frames_bgr: list[np.ndarray], threads: int) -> Difference:
    """Return how far the file's outputs differ from the network's; raises VerificationError beyond TOLERANCE."""
    difference = measure_difference(path, network, frames_bgr, threads)
    if not difference.worst <= TOLERANCE:
        raise VerificationError(
            f"the written file does not do what the checkpoint does: outputs differ by {difference.worst:.1e} of their "
            f"largest value on {difference.frames} frames, at most {TOLERANCE:.0e} is allowed. The file was removed; "
            "please report it with the checkpoint's name."
        )
    return difference
