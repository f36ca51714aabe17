"""AP and time of ways to shrink a picture into a model's input. Run from a checkout; see docs/decisions.

    python -m edgedet.benchmarks.studies.resize_filters CHECKPOINT DATA [IMAGES] --sizes 256 384 512 --sources 576 1080

Each picture is first brought to each source height, without smoothing where it grows (as a camera of that size would
see it, but without the detail that it would add), then shrunk by every filter. The filter "Pillow" is the reference:
antialiased bilinear, with which effdet's validation works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edgedet.anchors import anchors_for
from edgedet.engines.base import Engine, open_engine
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.export_onnx import export_onnx
from edgedet.judge.average_precision import SCORE_FLOOR, compute_accuracy, detect_images
from edgedet.judge.labels import match_classes, read_dataset
from edgedet.postprocess import postprocess
from edgedet.preprocess import fit
from edgedet.specs import DetectorSpec, resized
from edgedet.types import Detections

Size = tuple[int, int]
Filter = Callable[[np.ndarray, Size], np.ndarray]


def bilinear(bgr: np.ndarray, size_wh: Size) -> np.ndarray:
    """Four pixels of the source a pixel, however much it shrinks; the same bytes on every CPU."""
    return cv2.resize(bgr, size_wh, interpolation=cv2.INTER_LINEAR_EXACT)


def area(bgr: np.ndarray, size_wh: Size) -> np.ndarray:
    """The mean of all that a pixel covers."""
    return cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)


def pillow(bgr: np.ndarray, size_wh: Size) -> np.ndarray:
    """Antialiased bilinear: a triangle as wide as the factor."""
    from PIL import Image

    return np.asarray(Image.fromarray(bgr).resize(size_wh, Image.Resampling.BILINEAR))


def halved_above(least: float) -> Filter:
    """Means of 2 x 2 pixels while the factor is at least ``least``, then bilinear."""

    def shrink(bgr: np.ndarray, size_wh: Size) -> np.ndarray:
        while bgr.shape[1] >= least * size_wh[0] and bgr.shape[0] >= least * size_wh[1]:
            half_wh = (bgr.shape[1] // 2, bgr.shape[0] // 2)
            bgr = cv2.resize(bgr[: 2 * half_wh[1], : 2 * half_wh[0]], half_wh, interpolation=cv2.INTER_AREA)
        return bilinear(bgr, size_wh)

    return shrink


def whole_area(rounded: Callable[[float], int]) -> Filter:
    """Means of k x k pixels, k from the factor, then bilinear."""

    def shrink(bgr: np.ndarray, size_wh: Size) -> np.ndarray:
        k = max(1, rounded(min(bgr.shape[1] / size_wh[0], bgr.shape[0] / size_wh[1])))
        if k > 1:
            small_wh = (bgr.shape[1] // k, bgr.shape[0] // k)
            bgr = cv2.resize(bgr[: k * small_wh[1], : k * small_wh[0]], small_wh, interpolation=cv2.INTER_AREA)
        return bilinear(bgr, size_wh)

    return shrink


FILTERS: dict[str, Filter] = {
    "bilinear": bilinear,
    "Pillow": pillow,
    "area": area,
    "halved from 2": halved_above(2.0),  # as edgedet.preprocess.shrink, to the byte
    "halved from 1.5": halved_above(1.5),
    "k x k, floor": whole_area(int),
    "k x k, round": whole_area(round),
}


def main() -> None:
    """Print a table of AP and milliseconds, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 384, 512])
    parser.add_argument("--sources", type=int, nargs="+", default=[0], help="heights of the source; 0: as it is")
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    checkpoint = load_checkpoint(args.checkpoint)
    dataset = read_dataset(args.data, args.images)
    rows = []
    for side in args.sizes:
        sized = replace(checkpoint, spec=resized(checkpoint.spec, (side, side)))
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(sized, Path(folder) / "model.onnx", args.threads)
            meta, engine = open_engine(Path(folder) / "model.onnx", args.threads)
        for source in args.sources:
            for name in args.filters:
                model = _Model(meta.spec, engine, FILTERS[name], source)
                detections, failures = detect_images(model.detect, dataset.images)
                if failures:
                    raise SystemExit(failures[0])
                class_map = match_classes(dataset, meta.class_names)
                figures = compute_accuracy(detections, class_map, meta.class_names).figures
                row = {"size": side, "source": source, "filter": name, "ap": figures["AP"], "ap50": figures["AP50"]}
                rows.append({**row, "ms": statistics.median(model.times_ms)})
                print(
                    f"{side:5} {source:5} {name:16} AP {figures['AP']:.4f} AP50 {figures['AP50']:.4f} "
                    f"{rows[-1]['ms']:6.2f} ms",
                    flush=True,
                )
        engine.close()
    print(json.dumps({"checkpoint": args.checkpoint.name, "data": str(args.data), "rows": rows}))


class _Model:
    """A detector with a filter of its own; source: height that pictures are brought to first, 0 for none."""

    def __init__(self, spec: DetectorSpec, engine: Engine, shrink: Filter, source: int) -> None:
        self._spec, self._engine, self._shrink, self._source = spec, engine, shrink, source
        self._anchors_yxyx = anchors_for(spec)
        self.times_ms: list[float] = []

    def detect(self, bgr: np.ndarray) -> Detections:
        labelled_hw = (bgr.shape[0], bgr.shape[1])
        grown = self._source / bgr.shape[0] if self._source else 1.0
        if grown != 1.0:
            bgr = cv2.resize(bgr, None, fx=grown, fy=grown, interpolation=cv2.INTER_CUBIC)
        _, (h, w) = fit((bgr.shape[0], bgr.shape[1]), self._spec.input_hw)
        pixels = np.empty((1, *self._spec.input_hw, 3), np.uint8)
        pixels[0] = self._spec.fill_rgb[::-1]
        started = time.perf_counter()
        small = self._shrink(bgr, (w, h))
        self.times_ms.append(1e3 * (time.perf_counter() - started))
        pixels[0, :h, :w] = small
        raw = self._engine.infer(pixels)
        scale = max(labelled / side for labelled, side in zip(labelled_hw, self._spec.input_hw, strict=True))
        return postprocess(raw, self._anchors_yxyx, scale, labelled_hw, SCORE_FLOOR)


if __name__ == "__main__":
    main()
