"""What a training leaves for people: a table, curves, TensorBoard's logs, and pictures with boxes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedet.calibration.ranges.frames import thin_out
from edgedet.errors import require
from edgedet.files import atomic_path
from edgedet.judge.labels import LabelledImage
from edgedet.stream.images import read_image
from edgedet.stream.outputs.draw import draw
from edgedet.types import Detections

Row = Mapping[str, "float | None"]
SHOWN = 10  # validation pictures
SHOWN_SCORE = 0.3
TILE_WH = (320, 320)
TRUTH_BGR = (255, 255, 255)
TEXT_PX, LINE_PX = 12, 18


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write a row for each epoch as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None else f"{value:.6g}" for key, value in row.items()})
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw loss, AP and learning rate over the epochs as PNG; raises MissingDependency without matplotlib."""
    require("matplotlib", "the curves of edgedet train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in rows]
    for axes, title, names in zip(
        figure.subplots(1, 3),
        ("loss", "AP of the averaged weights", "learning rate"),
        (("loss", "class_loss"), ("AP", "AP50"), ("rate",)),
        strict=True,
    ):
        for name in names:
            axes.plot(epochs, [np.nan if row[name] is None else row[name] for row in rows], marker=".", label=name)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


class TensorBoard:
    """TensorBoard's event files in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises MissingDependency where tensorboard is not installed."""
        require("tensorboard", "edgedet train --tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add(self, row: Row) -> None:
        """Write the figures of an epoch."""
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, int(row["epoch"] or 0))
        self._writer.flush()

    def close(self) -> None:
        """End the thread that writes."""
        self._writer.close()


def draw_validation(
    detected: Sequence[tuple[LabelledImage, Detections]],
    class_map: Sequence[int],
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Draw SHOWN pictures on one sheet: labels in white, detections from SHOWN_SCORE on in colours.

    class_map: the model's class id of each class of the labels; those of -1 are not learnt, and not drawn.
    """
    tiles = []
    for image, detections in thin_out(detected, SHOWN):
        bgr, factor = shrink_to_tile(read_image(image.path))
        slots = np.array(class_map, dtype=np.int64)[image.class_ids]
        learnt = slots >= 0
        draw_labels(bgr, image.boxes_xyxy[learnt] * factor, [class_names[slot] for slot in slots[learnt]])
        kept = detections[detections.scores >= SHOWN_SCORE]
        tiles.append(draw(bgr, replace(kept, boxes_xyxy=kept.boxes_xyxy * factor), class_names))
    write_sheet(tiles, path)


def shrink_to_tile(bgr: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the picture (H, W, 3) uint8 as large as fits a tile, and its size as a share of the original's."""
    cv2 = require("cv2", "edgedet train")
    h, w = bgr.shape[:2]
    factor = min(TILE_WH[0] / w, TILE_WH[1] / h)
    size_wh = max(1, round(w * factor)), max(1, round(h * factor))
    return np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)), factor


def draw_labels(bgr: np.ndarray, boxes_xyxy: np.ndarray, names: Sequence[str]) -> None:
    """Draw labelled boxes in white into the picture, each with its name below, where detections have none."""
    cv2 = require("cv2", "edgedet train")
    for (x1, y1, x2, y2), name in zip(np.rint(boxes_xyxy).astype(int).tolist(), names, strict=True):
        cv2.rectangle(bgr, (x1, y1), (x2, y2), TRUTH_BGR, 1)
        write_text(bgr, name, x1, y2 + LINE_PX)


def write_text(bgr: np.ndarray, text: str, left: int, bottom: int) -> None:
    """Write black letters on white into the picture, moved so that they are within its sides."""
    cv2 = require("cv2", "edgedet train")
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = cv2.getFontScaleFromHeight(font, TEXT_PX, 1)
    (width, height), baseline = cv2.getTextSize(text, font, scale, 1)
    left = max(0, min(left, bgr.shape[1] - width))
    bottom = max(height + baseline, min(bottom, bgr.shape[0] - 1))
    cv2.rectangle(bgr, (left, bottom - height - baseline), (left + width, bottom), TRUTH_BGR, cv2.FILLED)
    cv2.putText(bgr, text, (left, bottom - baseline), font, scale, (0, 0, 0), 1, cv2.LINE_AA)


def write_sheet(tiles: Sequence[np.ndarray], path: Path, columns: int = 5) -> None:
    """Write pictures (h, w, 3) uint8 BGR, each no larger than a tile, side by side as one JPEG."""
    cv2 = require("cv2", "edgedet train")
    w, h = TILE_WH
    rows = -(-len(tiles) // columns)
    sheet = np.full((max(1, rows) * h, min(columns, max(1, len(tiles))) * w, 3), 32, np.uint8)
    for index, tile in enumerate(tiles):
        y, x = index // columns * h, index % columns * w
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), sheet)


def show(value: float | None) -> str:
    """Return a loss or an AP for people; "-" where there is none."""
    return "-" if value is None else f"{value:.4f}"
