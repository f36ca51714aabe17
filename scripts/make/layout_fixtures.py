"""Write tests/golden/layouts.json.xz and layout_outputs.json: other code bases' tensor names and outputs.

Runs each code base itself: effdet from pip, the other two from a folder with their sources (a checkout of the user's),
one per call, because they want different environments:

    python scripts/make/layout_fixtures.py effdet
    python scripts/make/layout_fixtures.py zylo117 FOLDER
    python scripts/make/layout_fixtures.py automl FOLDER/efficientdet      # needs TensorFlow 2.15 with its Keras 2

layouts.json.xz:      family -> variant -> {tensor name: shape}, every variant, 90 classes.
other_designs.json.xz: the same of effdet's models that edgedet does not build: model -> {tensor name: shape}.
layout_outputs.json:  family -> variant -> size, classes, largest magnitude and samples of the raw outputs, for weights
                      and a picture that ``seeded_array`` makes from the names alone; so tests need none of the sources.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SAMPLES = 96  # of each output, evenly spaced over all anchors and columns
DIGITS = 7  # of a sample, in units of the output's largest magnitude
WIDE, WIDE_FACTOR = 384, 0.87  # D6, D7 and D7x sum features without weights: their width takes a smaller gain


class Run(NamedTuple):
    """One run whose outputs are kept.

    side:    of the picture; small, so that borders matter.
    gain:    of random convolutions. Chosen so that a change in the stem moves the outputs by more than 1e-3 of their
             largest, and float32 rounding by less than 1e-5: with less the signal dies out, with more it turns chaotic.
    """

    side: int
    classes: int
    gain: float


RUNS = {
    "effdet": {
        "tf_efficientdet_d0": Run(128, 90, 1.3),
        "tf_efficientdet_d7x": Run(256, 2, 1.15),
        "tf_efficientdet_lite0": Run(160, 3, 1.0),
        "efficientdet_d0": Run(128, 90, 1.3),
        "efficientdet_d1": Run(128, 3, 1.3),
        "efficientdet_d4": Run(128, 2, 1.3),
        "efficientdet_lite0": Run(160, 3, 1.0),
    },
    "zylo117": {
        "0": Run(128, 90, 1.3),
        "1": Run(128, 3, 1.3),
        "2": Run(128, 4, 1.3),
        "3": Run(128, 5, 1.3),
        "4": Run(128, 7, 1.3),
        "5": Run(128, 2, 1.3),
        "6": Run(128, 3, 1.15),
        "7": Run(128, 2, 1.15),
        "8": Run(256, 2, 1.15),
    },
    "automl": {
        "efficientdet-d0": Run(128, 90, 1.3),
        "efficientdet-d1": Run(128, 3, 1.3),
        "efficientdet-d2": Run(128, 4, 1.3),
        "efficientdet-d3": Run(128, 5, 1.3),
        "efficientdet-d4": Run(128, 7, 1.3),
        "efficientdet-d5": Run(128, 2, 1.3),
        "efficientdet-d6": Run(128, 3, 1.15),
        "efficientdet-d7": Run(128, 2, 1.15),
        "efficientdet-d7x": Run(256, 2, 1.15),
        "efficientdet-lite0": Run(160, 90, 1.0),
        "efficientdet-lite1": Run(160, 3, 1.0),
        "efficientdet-lite2": Run(160, 4, 1.0),
        "efficientdet-lite3": Run(160, 2, 1.0),
        "efficientdet-lite3x": Run(160, 4, 1.0),
        "efficientdet-lite4": Run(128, 3, 1.0),
    },
}


def seeded_array(name: str, shape: tuple[int, ...], gain: float = 1.0) -> np.ndarray:
    """Return float32 values that depend on the tensor's name and shape only, with statistics like a trained model's."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.removesuffix(":0").split("/")[-1].split(".")[-1]
    if leaf in ("running_var", "moving_variance"):
        values = random.uniform(0.5, 1.5, shape)
    elif leaf == "edge_weights" or leaf.startswith("WSM") or leaf[-3:] in ("_w1", "_w2"):
        values = random.uniform(-0.2, 1.5, shape)  # some below 0, where relu takes them out
    elif leaf in ("gamma", "weight") and len(shape) == 1:
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        hwio = leaf.endswith("kernel")
        fan_in = shape[0] * shape[1] * (1 if leaf.startswith("depthwise") else shape[2]) if hwio else np.prod(shape[1:])
        values = random.standard_normal(shape) * gain * (WIDE_FACTOR if WIDE in shape else 1.0) / np.sqrt(fan_in)
    else:
        values = 0.1 * random.standard_normal(shape)
    return np.asarray(values, np.float32)


def picture(side: int) -> np.ndarray:
    """(1, 3, side, side) float32, as if normalised."""
    return seeded_array(f"picture {side}", (1, 3, side, side)) * np.float32(side * np.sqrt(3.0))


def sampled(class_logits: np.ndarray, box_codes: np.ndarray) -> dict[str, Any]:
    """Return largest magnitude and SAMPLES relative values of each output, (A, C) and (A, 4)."""
    kept: dict[str, Any] = {}
    for key, output in (("class_logits", class_logits), ("box_codes", box_codes)):
        largest = float(np.abs(output).max())
        flat = output.reshape(-1)[np.linspace(0, output.size - 1, SAMPLES).astype(int)]
        kept[key] = {"largest": round(largest, 5), "samples": [round(float(x) / largest, DIGITS) for x in flat]}
    return kept


def from_effdet(variant: str, run: Run | None) -> tuple[dict[str, Any], Any]:
    """Build one of effdet's models; return its layout and, where a run is given, its outputs."""
    import torch
    from effdet import EfficientDet, get_efficientdet_config

    config = get_efficientdet_config(variant)
    config.num_classes = run.classes if run else 90
    config.image_size = (run.side, run.side) if run else (256, 256)  # the layout does not depend on it
    model = EfficientDet(config, pretrained_backbone=False).eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if run is None:
        return shapes, None
    load_seeded(model, run.gain)
    with torch.inference_mode():
        classes, boxes = model(torch.from_numpy(picture(run.side)))

    def flat(levels: list[Any], width: int) -> np.ndarray:
        return np.concatenate([x.permute(0, 2, 3, 1).reshape(-1, width).numpy() for x in levels])

    return shapes, sampled(flat(classes, run.classes), flat(boxes, 4))


def from_zylo117(variant: str, run: Run | None) -> tuple[dict[str, Any], Any]:
    """As ``from_effdet``, for a compound_coef."""
    import torch
    from backbone import EfficientDetBackbone

    classes = run.classes if run else 90
    model = EfficientDetBackbone(num_classes=classes, compound_coef=int(variant)).eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if run is None:
        return shapes, None
    load_seeded(model, run.gain)
    logits: list[np.ndarray] = []  # the model returns scores: take what its header says before the sigmoid

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        logits.append(output.permute(0, 2, 3, 1).reshape(-1, classes).numpy())

    model.classifier.header.register_forward_hook(keep)
    with torch.inference_mode():
        _, boxes, scores, _ = model(torch.from_numpy(picture(run.side)))
    class_logits = np.concatenate(logits)
    np.testing.assert_allclose(1 / (1 + np.exp(-class_logits)), scores[0].numpy(), atol=1e-6)  # same order of anchors
    return shapes, sampled(class_logits, boxes[0].numpy())


def load_seeded(model: Any, gain: float) -> None:
    """Fill a PyTorch model with ``seeded_array``'s values."""
    import torch

    counters = "num_batches_tracked"
    seeded = {
        name: value if name.endswith(counters) else torch.from_numpy(seeded_array(name, tuple(value.shape), gain))
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(seeded)


def from_automl(variant: str, run: Run | None) -> tuple[dict[str, Any], Any]:
    """As ``from_effdet``, for a Keras model; the names are those that ``save_weights`` puts into a ``.h5``."""
    import hparams_config
    import tensorflow as tf
    from tf2 import efficientdet_keras

    tf.keras.backend.clear_session()
    config = hparams_config.get_efficientdet_config(variant)
    config.is_training_bn = False
    config.num_classes = run.classes if run else 90
    config.image_size = run.side if run else 256
    model = efficientdet_keras.EfficientDetNet(config=config)
    model.build((1, config.image_size, config.image_size, 3))
    groups = [(layer.name, layer.weights) for layer in model.layers]
    names = {f"{group}/{weight.name}": weight for group, weights in groups for weight in weights}
    shapes = {name: tuple(weight.shape) for name, weight in names.items()}
    if run is None:
        return shapes, None
    for name, weight in names.items():
        weight.assign(seeded_array(name, tuple(weight.shape), run.gain))
    classes, boxes = model(tf.constant(picture(run.side).transpose(0, 2, 3, 1)), training=False)

    def flat(levels: list[Any], width: int) -> np.ndarray:
        return np.concatenate([x.numpy().reshape(-1, width) for x in levels])

    return shapes, sampled(flat(classes, run.classes), flat(boxes, 4))


VARIANTS = {
    "effdet": [
        *(f"tf_efficientdet_d{phi}" for phi in range(8)),
        "tf_efficientdet_d7x",
        *(f"tf_efficientdet_lite{phi}" for phi in ("0", "1", "2", "3", "3x", "4")),
        *(f"efficientdet_d{phi}" for phi in range(6)),
        "efficientdet_lite0",
    ],
    "zylo117": [str(coef) for coef in range(9)],
    "automl": [
        *(f"efficientdet-d{phi}" for phi in range(8)),
        "efficientdet-d7x",
        *(f"efficientdet-lite{phi}" for phi in ("0", "1", "2", "3", "3x", "4")),
    ],
}
# All other names of effdet 0.4.1's table, but for AdvProp's, whose tensors are those of their twins
OTHER_DESIGNS = (
    *("efficientdetv2_dt", "efficientdetv2_ds", "resdet50", "cspresdet50", "cspresdext50", "cspresdext50pan"),
    *("cspdarkdet53", "cspdarkdet53m", "mixdet_m", "mixdet_l", "mobiledetv2_110d", "mobiledetv2_120d"),
    *("mobiledetv3_large", "efficientdet_q0", "efficientdet_q1", "efficientdet_q2", "efficientdet_w0"),
    *("efficientdet_es", "efficientdet_em"),
)
BUILDERS = {"effdet": from_effdet, "zylo117": from_zylo117, "automl": from_automl}


def write_compressed(values: dict[str, Any], path: Path) -> None:
    """Write JSON as .xz."""
    path.write_bytes(lzma.compress(json.dumps(values, sort_keys=True).encode(), preset=9))


def main() -> None:
    """Rewrite one family's part of both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=BUILDERS)
    parser.add_argument("folder", nargs="?", help="sources of zylo117, or automl's efficientdet folder")
    args = parser.parse_args()
    if args.folder:
        sys.path.insert(0, args.folder)
    build = BUILDERS[args.family]
    layouts, outputs = GOLDEN / "layouts.json.xz", GOLDEN / "layout_outputs.json"
    known = json.loads(lzma.decompress(layouts.read_bytes())) if layouts.exists() else {}
    known[args.family] = {variant: build(variant, None)[0] for variant in VARIANTS[args.family]}
    write_compressed(known, layouts)
    if args.family == "effdet":
        write_compressed({name: build(name, None)[0] for name in OTHER_DESIGNS}, GOLDEN / "other_designs.json.xz")
    runs = json.loads(outputs.read_text(encoding="utf-8")) if outputs.exists() else {}
    runs[args.family] = {
        variant: {**run._asdict(), **build(variant, run)[1]} for variant, run in RUNS[args.family].items()
    }
    lines = json.dumps(runs, sort_keys=True, indent=1).replace(",\n     ", ", ").replace("[\n     ", "[")
    outputs.write_text(lines.replace("\n    ]", "]") + "\n", encoding="utf-8")
    for variant, kept in runs[args.family].items():
        print(f"{variant:22} {kept['class_logits']['largest']:12} {kept['box_codes']['largest']:12}")


if __name__ == "__main__":
    main()
