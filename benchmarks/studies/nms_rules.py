"""AP and time of ways to turn raw outputs into boxes. Run from a checkout; the table is in docs/decisions/0016-nms.md.

    python -m edgedet.benchmarks.studies.nms_rules CHECKPOINT DATA [IMAGES]

The network runs once an image; each set of rules then works on the same raw outputs. Times are medians, by turns, of
the post-processing alone: at eval's threshold (SCORE_FLOOR) and at the one of `edgedet run`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2

from edgedet.anchors import anchors_for
from edgedet.engines.base import open_engine
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.export_onnx import export_onnx
from edgedet.judge.average_precision import SCORE_FLOOR, compute_accuracy
from edgedet.judge.labels import LabelledImage, match_classes, read_dataset
from edgedet.postprocess import DEFAULT_SCORE, NmsRules, postprocess
from edgedet.preprocess import Preprocessor
from edgedet.stream.images import read_image
from edgedet.types import Detections, RawOutputs

RULES = {
    f"{candidates}, {method}, clip to {clip}": NmsRules(candidates, method, clip=clip)
    for candidates in ("pairs", "anchors")
    for method in ("hard", "soft")
    for clip in ("picture", "input", "nothing")
}


def main() -> None:
    """Print a table of AP and milliseconds, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("images", type=Path, nargs="?")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = read_dataset(args.data, args.images)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(load_checkpoint(args.checkpoint), Path(folder) / "model.onnx", 1, top_anchors=0)
        meta, engine = open_engine(Path(folder) / "model.onnx", 1)
    anchors_yxyx, preprocess = anchors_for(meta.spec), Preprocessor(meta.spec)
    detected: dict[str, list[tuple[LabelledImage, Detections]]] = {name: [] for name in RULES}
    times_ms: dict[tuple[str, float], list[float]] = {(n, s): [] for n in RULES for s in (SCORE_FLOOR, DEFAULT_SCORE)}
    for image in dataset.images:
        model_input = preprocess(read_image(image.path))
        raw = engine.infer(model_input.pixels)
        raw = RawOutputs(raw.class_logits.copy(), raw.box_codes.copy())
        for (name, score), times in times_ms.items():
            started = time.perf_counter()
            detections = postprocess(
                raw,
                anchors_yxyx,
                model_input.scale_to_source,
                model_input.source_hw,
                score,
                RULES[name],
                meta.spec.input_hw,
            )
            times.append(1e3 * (time.perf_counter() - started))
            if score == SCORE_FLOOR:
                detected[name].append((image, detections))
    engine.close()
    rows = []
    class_map = match_classes(dataset, meta.class_names)
    for name in RULES:
        figures = compute_accuracy(detected[name], class_map, meta.class_names).figures
        low, high = (statistics.median(times_ms[name, score]) for score in (SCORE_FLOOR, DEFAULT_SCORE))
        rows.append({"rules": name, "ap": figures["AP"], "ap50": figures["AP50"], "ms_eval": low, "ms_run": high})
        print(f"{name:40} AP {figures['AP']:.4f} AP50 {figures['AP50']:.4f} {low:6.2f} ms {high:6.2f} ms", flush=True)
    print(json.dumps({"checkpoint": args.checkpoint.name, "data": str(args.data), "rows": rows}))


if __name__ == "__main__":
    main()
