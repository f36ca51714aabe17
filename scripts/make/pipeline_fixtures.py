"""Write tests/golden/pipelines.json: what the code bases' own pre- and post-processing make of 20 photographs.

    python scripts/make/pipeline_fixtures.py inputs FAMILY WORK [SOURCES]    # FAMILY: effdet, zylo117 or automl
    python scripts/make/pipeline_fixtures.py outputs FAMILY WORK             # our network, in PyTorch
    python scripts/make/pipeline_fixtures.py boxes FAMILY WORK [SOURCES]

Three steps, because automl wants an environment with TensorFlow 2.15 for the first and the last. SOURCES: a checkout of
zylo117, or automl's efficientdet folder. WORK keeps the arrays from step to step and is not committed.

The network and the weights are the same for all (../shared/weights, trained by effdet); only what stands before and
behind them is the code base's own. Kept for each photograph, hard and soft where the code base has both:
  whole: its pre-processing, network, its post-processing;
  post:  our pre-processing, network, its post-processing.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "support" / "networks"))
GOLDEN = ROOT / "tests" / "golden" / "pipelines.json"
SHARED = ROOT.parent / "shared"
SETS = {"cards": SHARED / "data/cards/images/test", "street": SHARED / "data/street/test"}
EACH = 10  # photographs of a set, evenly spaced
SIDE = 512
SCORE = 0.2  # detections below are not kept
MODES = {"effdet": ("hard", "soft"), "zylo117": ("hard",), "automl": ("hard", "soft")}


def photographs(name: str) -> list[Path]:
    """Return the photographs of one set."""
    paths = sorted(path for path in SETS[name].iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [paths[index] for index in np.linspace(0, len(paths) - 1, EACH).astype(int)]


def spec_of(name: str, family: str) -> Any:
    """Return the set's model as if ``family`` had trained it: its padding of pictures, rounding and anchors."""
    from edgedet.export.checkpoints.checkpoint import load_checkpoint
    from edgedet.export.checkpoints.families import EXACT_RATIOS

    checkpoint = load_checkpoint(SHARED / f"weights/tf_efficientdet_d0_{name}.pth")
    ratios = EXACT_RATIOS if family == "automl" else checkpoint.spec.aspect_ratios
    return replace(checkpoint, spec=replace(checkpoint.spec, family=family, aspect_ratios=ratios))


def inputs_of(family: str, path: Path) -> tuple[np.ndarray, Any]:
    """Return the normalised (1, 3, SIDE, SIDE) float32 of the code base itself, and how it scales boxes back."""
    if family == "effdet":
        from effdet.data.transforms import transforms_coco_eval
        from PIL import Image

        image, target = transforms_coco_eval(SIDE, "bilinear", use_prefetcher=True, fill_color="mean")(
            Image.open(path).convert("RGB"), {}
        )
        mean, std = (
            np.array(x, np.float32)[:, None, None] * 255 for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        return ((image.astype(np.float32) - mean) / std)[None], target["img_scale"]
    if family == "zylo117":
        from utils.utils import preprocess

        _, framed, metas = preprocess(str(path), max_size=SIDE)
        return framed[0].transpose(2, 0, 1)[None].astype(np.float32), [float(x) for x in metas[0]]
    import dataloader
    import tensorflow as tf

    image = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    processor = dataloader.DetectionInputProcessor(image, (SIDE, SIDE))
    processor.normalize_image([0.485 * 255, 0.456 * 255, 0.406 * 255], [0.229 * 255, 0.224 * 255, 0.225 * 255])
    processor.set_scale_factors_to_output_size()
    pixels = processor.resize_and_crop_image().numpy()
    return pixels.transpose(2, 0, 1)[None], float(processor.image_scale_to_original)


def boxes_of(family: str, mode: str, logits: np.ndarray, codes: np.ndarray, scale: Any, source_hw: Any) -> np.ndarray:
    """Return (n, 6) x1 y1 x2 y2 score class of one picture by the code base's own post-processing."""
    return {"effdet": _effdet_boxes, "zylo117": _zylo117_boxes, "automl": _automl_boxes}[family](
        mode, logits, codes, scale, source_hw
    )


def _levels(values: np.ndarray) -> list[np.ndarray]:
    """(A, n) of all levels -> (1, h, w, 9 n) a level."""
    sides = [SIDE // stride for stride in (8, 16, 32, 64, 128)]
    parts = np.split(values, np.cumsum([9 * side * side for side in sides])[:-1])
    return [part.reshape(1, side, side, -1) for part, side in zip(parts, sides, strict=True)]


def _effdet_boxes(mode: str, logits: np.ndarray, codes: np.ndarray, scale: Any, source_hw: Any) -> np.ndarray:
    import torch
    from effdet.anchors import Anchors, generate_detections
    from effdet.bench import _post_process

    maps = [[torch.from_numpy(x).permute(0, 3, 1, 2) for x in _levels(values)] for values in (logits, codes)]
    classes, boxes, indices, class_ids = _post_process(*maps, 5, logits.shape[1])
    anchors = Anchors(3, 7, 3, [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)], 4.0, (SIDE, SIDE)).boxes
    size_wh = torch.tensor([float(source_hw[1]), float(source_hw[0])])
    detections = generate_detections(
        classes[0], boxes[0], anchors, indices[0], class_ids[0], torch.tensor(scale), size_wh, 100, mode == "soft"
    ).numpy()
    detections[:, 5] -= 1
    return detections


def _zylo117_boxes(mode: str, logits: np.ndarray, codes: np.ndarray, scale: Any, source_hw: Any) -> np.ndarray:
    import torch
    from efficientdet.utils import Anchors, BBoxTransform, ClipBoxes
    from utils.utils import invert_affine, postprocess

    picture = torch.zeros(1, 3, SIDE, SIDE)
    anchors, scores = Anchors(anchor_scale=4.0)(picture), torch.from_numpy(logits).sigmoid()[None]
    detections = postprocess(
        picture, anchors, torch.from_numpy(codes)[None], scores, BBoxTransform(), ClipBoxes(), SCORE, 0.5
    )
    detections = invert_affine([scale], detections)[0]
    if not len(detections["rois"]):
        return np.zeros((0, 6))
    return np.column_stack([detections["rois"], detections["scores"], detections["class_ids"]])


def _automl_boxes(mode: str, logits: np.ndarray, codes: np.ndarray, scale: Any, source_hw: Any) -> np.ndarray:
    import hparams_config
    import tensorflow as tf
    from tf2 import postprocess

    params = hparams_config.get_efficientdet_config("efficientdet-d0").as_dict()
    params.update(image_size=SIDE, num_classes=logits.shape[1])
    params["nms_configs"]["method"] = "gaussian" if mode == "soft" else "hard"
    maps = [[tf.constant(level) for level in _levels(values)] for values in (logits, codes)]
    boxes, scores, classes, count = postprocess.postprocess_per_class(params, *maps, tf.constant([np.float32(scale)]))
    n = int(count[0])
    return np.column_stack([boxes[0, :n].numpy()[:, [1, 0, 3, 2]], scores[0, :n], classes[0, :n].numpy() - 1])


def make_inputs(family: str, work: Path) -> None:
    """Keep the code base's own network inputs."""
    for name in SETS:
        for path in photographs(name):
            pixels, scale = inputs_of(family, path)
            np.savez(work / f"{family}-{name}-{path.stem}-in.npz", pixels=pixels, scale=json.dumps(scale))


def make_outputs(family: str, work: Path) -> None:
    """Keep what our network gives for the code base's inputs and for our own."""
    import cv2
    import torch

    from edgedet.export.checkpoints.checkpoint import network_from_checkpoint
    from edgedet.export.verify import network_input
    from edgedet.preprocess import Preprocessor

    torch.set_num_threads(1)
    for name in SETS:
        checkpoint = spec_of(name, family)
        network, preprocess = network_from_checkpoint(checkpoint), Preprocessor(checkpoint.spec)
        for path in photographs(name):
            own = np.load(work / f"{family}-{name}-{path.stem}-in.npz")
            ours = preprocess(cv2.imread(str(path)))
            with torch.inference_mode():
                whole = network(torch.from_numpy(own["pixels"]))
                post = network(network_input(ours.pixels, checkpoint.spec))
            h, w = ours.source_hw
            scales = {"whole": json.loads(str(own["scale"])), "post": ours.scale_to_source}
            if family == "zylo117":  # new_w, new_h, old_w, old_h, padding
                across, down = ours.scale_to_source
                scales["post"] = [w / across, h / down, w, h, 0, 0]
            arrays = {
                f"{way}_{i}": value[0].numpy()
                for way, pair in (("whole", whole), ("post", post))
                for i, value in enumerate(pair)
            }
            np.savez(
                work / f"{family}-{name}-{path.stem}-out.npz", scales=json.dumps(scales), source_hw=(h, w), **arrays
            )


def make_boxes(family: str, work: Path) -> None:
    """Write the family's part of the golden file."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    golden[family] = {mode: {} for mode in MODES[family]}
    for name in SETS:
        for path in photographs(name):
            kept = np.load(work / f"{family}-{name}-{path.stem}-out.npz")
            scales = json.loads(str(kept["scales"]))
            for mode in MODES[family]:
                ways = {}
                for way in ("whole", "post"):
                    outputs = (kept[f"{way}_0"], kept[f"{way}_1"])
                    detections = boxes_of(family, mode, *outputs, scales[way], kept["source_hw"])
                    detections = detections[detections[:, 4] >= SCORE]
                    order = np.argsort(-detections[:, 4], kind="stable")
                    ways[way] = [[round(float(x), 4) for x in row] for row in detections[order]]
                golden[family][mode][f"{name}/{path.name}"] = ways
    lines = json.dumps(golden, sort_keys=True, indent=1)
    GOLDEN.write_text(lines.replace("\n      ", " ").replace("\n     ]", " ]") + "\n", encoding="utf-8")
    print(
        family, {mode: sum(len(ways["whole"]) for ways in photos.values()) for mode, photos in golden[family].items()}
    )


def main() -> None:
    """Take one step for one family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("inputs", "outputs", "boxes"))
    parser.add_argument("family", choices=MODES)
    parser.add_argument("work", type=Path)
    parser.add_argument("sources", nargs="?")
    args = parser.parse_args()
    if args.sources:
        sys.path.insert(0, args.sources)
    if args.family != "automl":  # its environment has no PyTorch
        from effdet_oracle import import_effdet

        import_effdet()
    args.work.mkdir(parents=True, exist_ok=True)
    {"inputs": make_inputs, "outputs": make_outputs, "boxes": make_boxes}[args.step](args.family, args.work)


if __name__ == "__main__":
    main()
