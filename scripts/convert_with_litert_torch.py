"""effdet's EfficientDet -> .tflite by Google's litert-torch and litert-quantizer, to compare our writer with.

Not a part of edgedet: it runs in an environment of its own (2.1 GB), made by

    python3 -m venv peer
    peer/bin/pip install litert-torch==0.10.0 litert-quantizer==0.11.0 torchvision pyyaml pycocotools
    peer/bin/pip install --no-deps timm==1.0.19 omegaconf==2.4.0 effdet==0.4.1
    peer/bin/pip install opencv-python-headless
    peer/bin/python scripts/convert_with_litert_torch.py --calib PHOTOS --weights my.pth --classes 6 --out peer.tflite

It gives these packages their best: the input and the ten outputs are channel-last, the BiFPN is a sum with constant
weights (as effdet writes it, D0 has 889 operators instead of 613), quantisation is static INT8 with weights per channel
(``static_wi8_ai8``), calibrated on photographs of the scene. Writes OUT and OUT's stem + _int8.tflite.
``python -m edgedet.benchmarks.studies.peers --litert OUT`` then compares.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np

warnings.filterwarnings("ignore")

import torch  # noqa: E402

try:
    import torchvision  # noqa: F401, E402
except RuntimeError:  # its compiled operators want another torch; the network uses none of them
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import effdet  # noqa: E402
import litert_torch  # noqa: E402
from litert_quantizer import quantizer, recipe  # noqa: E402

IMAGENET = (np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]))  # mean and deviation, RGB
HALF = np.float32([0.5, 0.5, 0.5])  # both, of the Lite models


class Flat(torch.nn.Module):
    """The ten outputs of effdet's two lists, one after the other."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return class logits, then box codes, finest level first."""
        logits, codes = self.model(x)
        return (*logits, *codes)


def weighted_sum(self: torch.nn.Module, x: list[torch.Tensor]) -> torch.Tensor:
    """Do what FpnCombine.forward does, as a sum with constant weights: its stack and sum are 276 operators more."""
    edges = [resample(x[offset]) for offset, resample in zip(self.inputs_offsets, self.resample.values(), strict=True)]
    if self.constants is not None:
        edges = [weight * edge for weight, edge in zip(self.constants, edges, strict=True)]
    return sum(edges[1:], edges[0])


def simplify_sums(network: torch.nn.Module) -> None:
    """Make every FpnCombine a ``weighted_sum``."""
    kind = effdet.efficientdet.FpnCombine
    for module in network.modules():
        if isinstance(module, kind):
            weights = None if module.edge_weights is None else torch.relu(module.edge_weights.detach())
            module.constants = None if weights is None else (weights / (weights.sum() + 0.0001)).tolist()
    kind.forward = weighted_sum


def pixels_of(path: Path, size: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return (1, S, S, 3) float32 as effdet's own pipeline makes it: letterbox to the top left, normalised."""
    rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    h, w = rgb.shape[:2]
    scale = min(size / h, size / w)
    small = cv2.resize(rgb, (int(w * scale), int(h * scale)), interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((1, size, size, 3), np.float32)
    canvas[0, : small.shape[0], : small.shape[1]] = (small / np.float32(255) - mean) / std
    return canvas


def main() -> None:
    """Convert, quantise, and say how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tf_efficientdet_d0", help="effdet's name (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="state dict of effdet (default: random)")
    parser.add_argument("--classes", type=int, default=90)
    parser.add_argument("--calib", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.manual_seed(0)
    config = effdet.get_efficientdet_config(args.model)
    config.num_classes = args.classes
    network = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    if args.weights is not None:
        network.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True))
    simplify_sums(network)
    size = config.image_size[0]
    started = time.perf_counter()
    last = litert_torch.to_channel_last_io(Flat(network), args=[0], outputs=list(range(10))).eval()
    converted = litert_torch.convert(last, (torch.zeros(1, size, size, 3),))
    converted.export(str(args.out))
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - started:.0f} s", flush=True)

    mean, std = (HALF, HALF) if "lite" in args.model else IMAGENET
    paths = sorted(path for path in args.calib.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, min(args.frames, len(paths))).astype(int)]
    started = time.perf_counter()
    work = quantizer.Quantizer(str(args.out), recipe.static_wi8_ai8())
    (signature,) = litert_torch_signatures(args.out)
    ranges = work.calibrate({signature[0]: [{signature[1]: pixels_of(path, size, mean, std)} for path in paths]})
    quantised = work.quantize(ranges)
    path = args.out.with_name(f"{args.out.stem}_int8.tflite")
    quantised.export_model(str(path), overwrite=True)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - started:.0f} s", flush=True)


def litert_torch_signatures(path: Path) -> list[tuple[str, str]]:
    """Return (signature, its input) of a file with one input a signature."""
    from ai_edge_litert.interpreter import Interpreter

    return [(key, signature["inputs"][0]) for key, signature in Interpreter(str(path)).get_signature_list().items()]


if __name__ == "__main__":
    sys.exit(main())
