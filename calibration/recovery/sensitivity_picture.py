"""What each layer loses in INT8, as one picture: a bar a layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet.files import atomic_path

if TYPE_CHECKING:
    from edgedet.calibration.recovery.sensitivity import LayerLoss

SHOWN = 40  # bars


def draw_losses(losses: Sequence[LayerLoss], path: Path) -> None:
    """Draw the first losses, the worst on top, to a .png or .svg file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = losses[:SHOWN][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.2 * len(shown)), layout="constrained")
    axes.barh([loss.layer for loss in shown], [loss.sqnr_db for loss in shown], color="#2a6f97")
    axes.set_xlabel("signal to quantisation noise at the outputs, dB, with this layer alone in INT8 (shorter is worse)")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=120)
    pyplot.close(figure)
