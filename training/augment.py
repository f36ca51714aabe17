"""Pictures and boxes as the network sees them in training: resized, mirrored, recoloured, four in one.

A fixed camera sees its scene from one side, at one distance and in changing light: so pictures are mirrored, scaled
a little and recoloured, and neither turned nor sheared. All by OpenCV, whose resizing is the one that the device uses
(docs/decisions/0023-training.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from edgedet.preprocess import fit, shrink
from edgedet.specs import DetectorSpec

LEAST_VISIBLE = 0.25  # of a box's area: what is cut off more than that is no longer an example of its class
LUMA_BGR = (0.114, 0.587, 0.299)  # ITU-R BT.601


@dataclass(frozen=True)
class Augmentation:
    """How far pictures are changed; 0, or (1, 1), leaves them.

    flip:       probability of mirroring left and right.
    scale:      (least, most) size of the picture in shares of what fits the input.
    brightness, contrast, saturation, balance: largest change, as a share; balance is that of each colour by itself.
    mosaic:     probability that four pictures share one input.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.6, 1.4)
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    balance: float = 0.08
    mosaic: float = 0.0


NONE = Augmentation(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture with its boxes.

    pixels:     (H, W, 3) uint8 BGR.
    boxes_xyxy: (n, 4) float32, pixels of this picture.
    class_ids:  (n,) int64, the model's; -1 marks what is neither object nor background (COCO's crowds).
    scores:     (n,) float32, how sure the label is: 1 of a person's, the teacher's of a pseudo-label.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray


def fit_sample(sample: Sample, spec: DetectorSpec) -> Sample:
    """Return the sample as the device sees it: in the top-left corner of the input, the rest in the fill colour."""
    return _place(sample, spec, 1.0, None)


def augment(sample: Sample, spec: DetectorSpec, how: Augmentation, random: np.random.Generator) -> Sample:
    """Return the sample at a random size and place in the input, perhaps mirrored, in other light."""
    if random.random() < how.flip:
        sample = mirror(sample)
    sample = _place(sample, spec, float(random.uniform(*how.scale)), random)
    return replace(sample, pixels=recolour(sample.pixels, how, random))


def mirror(sample: Sample) -> Sample:
    """Return the sample with left and right exchanged."""
    width = sample.pixels.shape[1]
    boxes = sample.boxes_xyxy.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return replace(sample, pixels=np.ascontiguousarray(sample.pixels[:, ::-1]), boxes_xyxy=boxes)


def recolour(pixels: np.ndarray, how: Augmentation, random: np.random.Generator) -> np.ndarray:
    """Return pixels (H, W, 3) uint8 BGR in other light; all changes are one 3 x 4 matrix."""
    brightness, contrast, saturation = (
        float(random.uniform(-most, most)) for most in (how.brightness, how.contrast, how.saturation)
    )
    balance = 1.0 + random.uniform(-how.balance, how.balance, 3)
    grey = np.tile(np.array(LUMA_BGR), (3, 1))
    colours = (1.0 + contrast) * balance[:, None] * ((1.0 + saturation) * np.eye(3) - saturation * grey)
    offset = 128.0 * (brightness - contrast)  # contrast turns around middle grey
    matrix = np.hstack([colours, np.full((3, 1), offset)])
    return np.asarray(cv2.transform(pixels, matrix))


def make_mosaic(samples: list[Sample], spec: DetectorSpec, how: Augmentation, random: np.random.Generator) -> Sample:
    """Return four samples around a random point of one input (Bochkovskiy et al., arXiv 2004.10934, section 3.3)."""
    h, w = spec.input_hw
    middle_y, middle_x = (int(side * random.uniform(0.3, 0.7)) for side in (h, w))
    canvas = np.empty((h, w, 3), np.uint8)
    canvas[:] = spec.fill_rgb[::-1]
    parts = []
    for sample, (top, bottom, left, right) in zip(
        samples,
        (
            (0, middle_y, 0, middle_x),
            (0, middle_y, middle_x, w),
            (middle_y, h, 0, middle_x),
            (middle_y, h, middle_x, w),
        ),
        strict=True,
    ):
        tile = replace(spec, input_hw=(bottom - top, right - left))
        part = augment(sample, tile, how, random)
        canvas[top:bottom, left:right] = part.pixels
        parts.append(replace(part, boxes_xyxy=part.boxes_xyxy + np.array([left, top, left, top], np.float32)))
    boxes, class_ids, scores = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes_xyxy", "class_ids", "scores")
    )
    return Sample(canvas, boxes, class_ids, scores)


def _place(sample: Sample, spec: DetectorSpec, size: float, random: np.random.Generator | None) -> Sample:
    """Resize to ``size`` times what fits, and put it into the input: at the top-left, or anywhere by ``random``."""
    input_h, input_w = spec.input_hw
    source_hw = (sample.pixels.shape[0], sample.pixels.shape[1])
    _, (fit_h, fit_w) = fit(source_hw, spec.input_hw, spec.family)
    h, w = max(1, round(fit_h * size)), max(1, round(fit_w * size))
    resized = np.empty((h, w, 3), np.uint8)
    shrink(cv2, sample.pixels, resized, {})
    left, top = 0, 0
    if random is not None:  # negative where the picture is larger than the input
        left = int(random.integers(min(0, input_w - w), max(0, input_w - w) + 1))
        top = int(random.integers(min(0, input_h - h), max(0, input_h - h) + 1))
    canvas = np.empty((input_h, input_w, 3), np.uint8)
    canvas[:] = spec.fill_rgb[::-1]
    y1, y2, x1, x2 = max(0, top), min(input_h, top + h), max(0, left), min(input_w, left + w)
    canvas[y1:y2, x1:x2] = resized[y1 - top : y2 - top, x1 - left : x2 - left]
    factors = np.array([w / source_hw[1], h / source_hw[0]] * 2, np.float32)
    moved = sample.boxes_xyxy * factors + np.array([left, top, left, top], np.float32)
    boxes = moved.copy()
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, input_w)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, input_h)
    least = np.where(sample.class_ids < 0, 0.0, LEAST_VISIBLE)  # a part of what is ignored is to be ignored, too
    kept = compute_areas(boxes) >= np.maximum(least * compute_areas(moved), 1.0)
    return Sample(canvas, boxes[kept], sample.class_ids[kept], sample.scores[kept])


def compute_areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return (n,) areas in square pixels."""
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0.0)
    return np.asarray(sides[:, 0] * sides[:, 1])
