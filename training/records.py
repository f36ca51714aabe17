"""What a training leaves for people: a table, curves, TensorBoard's logs, and pictures with boxes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

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
    """Draw SHOWN pictures on one sheet: labels in white, detections from SHOWN_SCORE on in colours."""
    step = max(1, len(detected) // SHOWN)
    tiles = []
    for image, detections in detected[::step][:SHOWN]:
        bgr = draw_labels(read_image(image.path), image.boxes_xyxy)
        kept = detections[detections.scores >= SHOWN_SCORE]
        tiles.append(draw(bgr, kept, tuple(class_names)))
    write_sheet(tiles, path)


def draw_labels(bgr: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return the picture with labelled boxes in white."""
    cv2 = require("cv2", "edgedet train")
    thickness = max(1, round(max(bgr.shape[:2]) / 250))
    bgr = bgr.copy()
    for x1, y1, x2, y2 in np.rint(boxes_xyxy).astype(int):
        cv2.rectangle(bgr, (x1, y1), (x2, y2), TRUTH_BGR, thickness)
    return bgr


def write_sheet(tiles: Sequence[np.ndarray], path: Path, columns: int = 5) -> None:
    """Write pictures (h, w, 3) uint8 BGR side by side as one JPEG, each fitted into a tile."""
    cv2 = require("cv2", "edgedet train")
    w, h = TILE_WH
    rows = -(-len(tiles) // columns)
    sheet = np.full((max(1, rows) * h, min(columns, max(1, len(tiles))) * w, 3), 32, np.uint8)
    for index, tile in enumerate(tiles):
        factor = min(w / tile.shape[1], h / tile.shape[0])
        size_wh = max(1, int(tile.shape[1] * factor)), max(1, int(tile.shape[0] * factor))
        y, x = index // columns * h, index % columns * w
        sheet[y : y + size_wh[1], x : x + size_wh[0]] = cv2.resize(tile, size_wh, interpolation=cv2.INTER_AREA)
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), sheet)
