"""Write an ONNX file with boxes by effdet's own code and PyTorch's exporter, to try files of other makers in edgedet.

    python scripts/make/effdet_onnx.py tf_efficientdet_d0_street.pth effdet.onnx [--variant tf_efficientdet_d0]
        [--classes 1] [--size 512]

The graph is effdet's ``DetBenchPredict``: input (1, 3, H, W) float, normalised; output (1, n, 6) of x1 y1 x2 y2, score
and class. Its NMS becomes ONNX's by torchvision's own rule for the exporter (torchvision.ops._register_onnx_ops). Needs
effdet and torchvision. Where torchvision's compiled part does not load, the tests' plain NMS takes its place while the
exporter traces; the graph is the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

os.environ["PYTORCH_JIT"] = (
    "0"  # the exporter traces effdet's functions; compiled ones have branches that it cannot write
)
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support/networks"))
from effdet_oracle import import_effdet


def main() -> None:
    """Export one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", default="tf_efficientdet_d0")
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # effdet 0.4.1 scripts functions, which newer torch deprecates
    effdet = import_effdet()
    from torchvision.ops._register_onnx_ops import symbolic_multi_label_nms

    torch.onnx.register_custom_op_symbolic("torchvision::nms", symbolic_multi_label_nms, 11)
    network = effdet.create_model(
        args.variant,
        num_classes=args.classes,
        pretrained=False,
        pretrained_backbone=False,
        image_size=(args.size, args.size),
    )
    network.load_state_dict(torch.load(args.checkpoint, weights_only=True))
    bench = effdet.DetBenchPredict(network).eval().requires_grad_(False)
    image = torch.randn(1, 3, args.size, args.size)
    torch.onnx.export(
        bench,
        (image,),
        str(args.out),
        input_names=["image"],
        output_names=["detections"],
        opset_version=17,
        dynamo=False,
    )
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
