"""A picture of what the float model and an INT8 file detect on the same frames: most of them where they agree least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgedet.errors import require
from edgedet.files import atomic_path
from edgedet.judge.agreement import compute_f1, count_matches, keep_above
from edgedet.types import Detections, ModelInput

COLUMNS, ROWS = 3, 2
SHOWN_WORST = 4  # of the frames; the others are spread over all
TILE_WH = (480, 360)
HEADING_PX, CAPTION_PX = 36, 24
FLOAT_BGR, INT8_BGR, GROUND_BGR, INK_BGR = (80, 200, 60), (60, 60, 245), (32, 32, 32), (235, 235, 235)
JPEG_QUALITY = 90

BOXES_SUFFIX = ".boxes.jpg"
PictureOf = Callable[[], np.ndarray]  # gives the picture, (H, W, 3) uint8 BGR, in whose pixels the detections are


def draw_boxes_of_both(
    path: Path,
    title: str,
    frames: Sequence[PictureOf],
    float_detections: Sequence[Detections],
    int8_detections: Sequence[Detections],
    score: float,
) -> None:
    """Write a JPEG: the float model's boxes thick and green, the INT8 file's thin and red, from ``score`` up.

    frames: as many as there are detections of both, at least one.
    """
    cv2 = require("cv2", "edgedet export --pictures")
    pairs = [
        (keep_above(a, score), keep_above(b, score)) for a, b in zip(float_detections, int8_detections, strict=True)
    ]
    tiles = [_draw_tile(frames[at](), *pairs[at]) for at in choose_frames(pairs)]
    blank = np.full_like(tiles[0], GROUND_BGR[0])
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)]
    heading = np.full((HEADING_PX, rows[0].shape[1], 3), GROUND_BGR[0], np.uint8)
    text = f"{title}: float green, INT8 red, score {score:g} and more; first the frames that agree least"
    cv2.putText(heading, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK_BGR, 1, cv2.LINE_AA)
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), np.vstack([heading, *rows]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def choose_frames(pairs: Sequence[tuple[Detections, Detections]]) -> list[int]:
    """Return the positions of the frames to show: those of the lowest F1 first, then others spread over all."""
    f1 = [_f1(*pair) for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda at: f1[at])
    worst = order[:SHOWN_WORST]
    others = [at for at in range(len(pairs)) if at not in worst and len(pairs[at][0])]
    left = min(COLUMNS * ROWS - len(worst), len(others))
    return worst + [others[at * len(others) // left] for at in range(left)]


def _f1(float_side: Detections, int8_side: Detections) -> float:
    value = compute_f1(np.array(count_matches(int8_side, float_side), dtype=np.float64))
    return 1.0 if value is None else value


def _draw_tile(bgr: np.ndarray, float_side: Detections, int8_side: Detections) -> np.ndarray:
    cv2 = require("cv2", "edgedet export --pictures")
    scale = min(TILE_WH[0] / bgr.shape[1], TILE_WH[1] / bgr.shape[0])
    size_wh = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
    small = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for detections, colour, thickness in ((float_side, FLOAT_BGR, 4), (int8_side, INT8_BGR, 1)):
        for x1, y1, x2, y2 in (detections.boxes_xyxy * scale).round().astype(int).tolist():
            cv2.rectangle(small, (x1, y1), (x2, y2), colour, thickness)
    tile = np.full((TILE_WH[1] + CAPTION_PX, TILE_WH[0], 3), GROUND_BGR[0], np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small
    text = f"F1 {_f1(float_side, int8_side):.3f}: float {len(float_side)}, INT8 {len(int8_side)}"
    cv2.putText(tile, text, (6, TILE_WH[1] + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.48, INK_BGR, 1, cv2.LINE_AA)
    return tile


def source_picture(frame: ModelInput) -> np.ndarray:
    """Return the picture that a model's input shows, in the pixels of its source, (H, W, 3) uint8 BGR."""
    cv2 = require("cv2", "edgedet export --pictures")
    height, width = frame.source_hw
    scale = frame.scale_to_source
    scale_x, scale_y = scale if isinstance(scale, tuple) else (scale, scale)
    part = frame.pixels[0, : max(1, round(height / scale_y)), : max(1, round(width / scale_x))]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR))
