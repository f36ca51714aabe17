"""The pictures of ``edgedet eval --report``: precision-recall curves, AP per class, the worst mistakes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

import numpy as np

from ..errors import SourceError, require
from ..files import atomic_path
from ..stream.images import read_image
from .evaluate import Evaluation
from .matching import COCO_IOUS, COCO_RECALLS
from .mistakes import Mistake, find_false_alarms, find_misses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES, BARS, SHEET = "precision-recall.png", "ap-per-class.png", "worst.jpg"
SHOWN_IOUS = (0.5, 0.75, 0.9)
MOST_CURVES = 10  # classes with a curve of their own: colours beyond cannot be told apart
COLUMNS, ROWS = 5, 3  # of the sheet, for misses and for false alarms
TILE_PX = 240
MARGIN = 0.8  # of the box's longer side, to be seen on each side of it
LEAST_VIEW_PX = 96
GREEN, RED, WHITE, GREY = (80, 200, 60), (60, 60, 235), (255, 255, 255), (200, 200, 200)  # BGR
DPI = 110


def write_report(folder: Path, evaluation: Evaluation) -> List[Path]:
    """Write the three pictures into a folder, and return their paths.

    Raises MissingDependency without matplotlib, InputError where the folder cannot be written.
    """
    require("matplotlib", "edgedet eval --report")
    figures = {CURVES: draw_curves(evaluation), BARS: draw_bars(evaluation)}
    for name, figure in figures.items():
        with atomic_path(folder / name) as temporary:
            figure.savefig(temporary, dpi=DPI)
    cv2 = require("cv2", "edgedet eval --report")
    with atomic_path(folder / SHEET) as temporary:
        cv2.imwrite(str(temporary), draw_sheet(evaluation), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return [folder / name for name in (*figures, SHEET)]


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.figure import Figure  # without pyplot: no window, and nothing that outlives the call

    return Figure((width_in, height_in), layout="constrained")


def draw_curves(evaluation: Evaluation) -> Figure:
    """Return precision over recall: left the mean of all classes at some IoUs, right the classes with most labels."""
    accuracy = evaluation.accuracy
    figure = _figure(11.0, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for iou in SHOWN_IOUS:
        curve = np.nanmean(accuracy.precision[int(np.argmin(abs(COCO_IOUS - iou)))], axis=1)
        left.plot(COCO_RECALLS, curve, label=f"IoU {iou:.2f}, AP {np.mean(curve):.3f}")
    mean = np.nanmean(accuracy.precision, axis=(0, 2))
    left.plot(COCO_RECALLS, mean, "k--", label=f"IoU 0.50 to 0.95, AP {np.mean(mean):.3f}")
    left.set_title("mean of all classes")
    names = sorted(accuracy.counts, key=lambda name: -accuracy.counts[name])
    named = [name for name in names if accuracy.counts[name]][:MOST_CURVES]
    columns = list(accuracy.per_class)
    for name in named:
        curve = accuracy.precision[0, :, columns.index(name)]
        right.plot(COCO_RECALLS, curve, label=f"{_short(name)}, {np.mean(curve):.3f}")
    some = "each class" if len(named) == len(columns) else f"the {len(named)} classes with most labels"
    right.set_title(f"IoU 0.50, {some}")
    left.set_ylabel("precision")
    for axes in (left, right):
        axes.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower left")
    return figure


def draw_bars(evaluation: Evaluation) -> Figure:
    """Return a bar a class, the best first: AP over IoU 0.50 to 0.95, with a mark at AP50; labels in brackets."""
    accuracy = evaluation.accuracy
    known = [(value, name) for name, value in accuracy.per_class.items() if value is not None]
    known.sort(reverse=True)
    columns = list(accuracy.per_class)
    at_50 = [np.mean(accuracy.precision[0, :, columns.index(name)]) for _, name in known]
    figure = _figure(8.0, 1.4 + 0.28 * max(len(known), 2))
    axes: Any = figure.subplots()
    rows = np.arange(len(known))
    axes.barh(rows, [value for value, _ in known], height=0.7, label="AP, IoU 0.50 to 0.95")
    axes.plot(at_50, rows, "k|", markersize=11, markeredgewidth=2, linestyle="none", label="AP50")
    for row, (value, _) in zip(rows, known):
        axes.text(value + 0.005, row, f"{value:.3f}", va="center", fontsize=8)
    axes.set_yticks(rows, [f"{_short(name)} ({accuracy.counts[name]})" for _, name in known], fontsize=9)
    axes.set(xlim=(0, 1), xlabel=f"AP; the mean is {accuracy.figures['AP'] or 0:.3f}")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _short(name: str) -> str:
    return textwrap.shorten(name, 24, placeholder="…") or name


def draw_sheet(evaluation: Evaluation) -> np.ndarray:
    """Return the worst misses above the worst false alarms, (H, W, 3) uint8 BGR.

    Each tile shows the box with a thick line, and what the other side has there: labels in green, detections in red.
    """
    most = COLUMNS * ROWS
    misses = find_misses(evaluation.detected, evaluation.class_map, most)
    alarms = find_false_alarms(evaluation.detected, evaluation.class_map, most)
    names = evaluation.class_names
    return np.vstack(
        [
            _heading("Missed: the labelled boxes (green) that get the lowest scores; 0.00 is no detection at all"),
            _tiles(misses, names, GREEN, RED),
            _heading("False alarms: the detections (red) of the highest scores that no label (green) matches"),
            _tiles(alarms, names, RED, GREEN),
        ]
    )


Bgr = Tuple[int, int, int]


def _heading(text: str) -> np.ndarray:
    cv2 = require("cv2", "edgedet eval --report")
    line = np.full((36, COLUMNS * TILE_PX, 3), 32, np.uint8)
    cv2.putText(line, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, WHITE, 1, cv2.LINE_AA)
    return line


def _tiles(mistakes: Sequence[Mistake], names: Sequence[str], own: Bgr, other: Bgr) -> np.ndarray:
    tiles = [_tile(mistake, names, own, other) for mistake in mistakes]
    if not tiles:
        return _heading("none")
    tiles += [np.full_like(tiles[0], 32)] * (-len(tiles) % COLUMNS)
    return np.vstack([np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)])


def _tile(mistake: Mistake, names: Sequence[str], own: Bgr, other: Bgr) -> np.ndarray:
    """Return the box in its surroundings, TILE_PX wide and high, with a caption below."""
    cv2 = require("cv2", "edgedet eval --report")
    try:
        bgr = read_image(mistake.path)
    except SourceError:  # it was there when it was detected on
        bgr = np.zeros((LEAST_VIEW_PX, LEAST_VIEW_PX, 3), np.uint8)
    corners = np.asarray(mistake.box_xyxy, np.float64).reshape(2, 2)
    size_wh = np.array(bgr.shape[1::-1], np.float64)
    side = max(LEAST_VIEW_PX, (1.0 + 2.0 * MARGIN) * float((corners[1] - corners[0]).max()))
    # The box's middle is the view's, but the view stays within the picture where it can.
    first = np.where(size_wh > side, np.clip(corners.mean(0) - side / 2, 0, size_wh - side), (size_wh - side) / 2)
    scale = TILE_PX / side
    move = np.column_stack([np.eye(2) * scale, -first * scale])  # from the picture's pixels to the tile's
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = cv2.warpAffine(bgr, move, (TILE_PX, TILE_PX), flags=how, borderValue=(32, 32, 32))
    for box, colour, thickness in [*((box, other, 1) for box in mistake.others_xyxy), (mistake.box_xyxy, own, 2)]:
        (left, top), (right, bottom) = (
            ((np.asarray(box, np.float64).reshape(2, 2) - first) * scale).round().astype(int).tolist()
        )
        cv2.rectangle(tile, (left, top), (right, bottom), colour, thickness)
    caption = np.full((34, TILE_PX, 3), 32, np.uint8)
    cv2.putText(caption, _caption(mistake, names), (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, own, 1, cv2.LINE_AA)
    cv2.putText(caption, mistake.path.name[-34:], (4, 29), cv2.FONT_HERSHEY_SIMPLEX, 0.38, GREY, 1, cv2.LINE_AA)
    tile = np.vstack([tile, caption])
    tile[:, -1] = tile[-1] = 32
    return tile


def _caption(mistake: Mistake, names: Sequence[str]) -> str:
    text = f"{names[mistake.class_id][:14]} {mistake.score:.2f}"
    if mistake.other_class is None or mistake.other_class == mistake.class_id:
        return text
    name = names[mistake.other_class][:14]
    return f"{text}, labelled {name}" if mistake.other_score is None else f"{text}, {name} {mistake.other_score:.2f}"
