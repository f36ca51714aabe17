"""How much larger than the objects are a model's boxes? The edges of the pictures tell, without labels.

People draw a box at the outline of an object, and there the picture changes. So each box is resized in steps, and the
strength of the edges along its sides is measured at each size. The mean of many boxes has its peak, or its steepest
fall, where the outlines of the objects are: at size 1 where the boxes fit. On two real sets whose boxes are 12 to 20 %
too wide this finds 12 to 27 %, and on boxes that people drew 3 to 4 % (docs/int8.md).
"""

from __future__ import annotations

from functools import lru_cache
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ...errors import require
from ...types import ModelInput

LOG_SIZES = np.linspace(-0.4, 0.4, 41)  # natural logarithms of the sizes that a box is tried at
BLUR_SIGMA = 1.0  # pixels, before the differences: camera noise is no edge
CORE = 0.35  # of a side, to both sides of its middle: objects have round corners
SMALLEST_SIDE = 12.0  # pixels of the network's input; on smaller boxes a step of LOG_SIZES is no pixel
BORDER = 3.0  # pixels; sides nearer to the picture's end are left out
LEAST_BOXES = 40
# The fit: a straight line, a step down and a peak, both of them at the outline. The grid holds all that is tried.
EXCESSES = np.linspace(-0.36, 0.36, 73)
WIDTHS = (0.05, 0.08, 0.12, 0.16, 0.2)  # natural logarithms: how much boxes scatter around the outlines
LEAST_EXPLAINED = 0.8  # of the curve's variance; below that it is not the shape of outlines
MOST_ERROR = 0.06  # natural logarithm: the standard error, over resampled frames, up to which an excess is known
RESAMPLES = 20
MOST_EXCESS = 0.2  # where outlines are blurred, as those of walking people, the steepest fall lies too far inside


def measure_outlines(frame: ModelInput, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return how strong the edges along resized boxes are: (n, 2, len(LOG_SIZES)) float64.

    boxes_xyxy: (n, 4), pixels of the source.
    The first of the two is of the left and right side, for widths, the second of top and bottom. Each is the mean of
    ln(1 + gradient), less its mean over sizes; NaN where both sides lie outside the picture.
    """
    cv2 = require("cv2", "judging without labels")
    grey = cv2.cvtColor(frame.pixels[0], cv2.COLOR_BGR2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), BLUR_SIGMA)
    across, down = (np.abs(cv2.Sobel(grey, cv2.CV_32F, *order)) for order in ((1, 0), (0, 1)))
    scale_xy = np.broadcast_to(np.asarray(frame.scale_to_source, dtype=np.float64), 2)
    height, width = (side / scale for side, scale in zip(frame.source_hw, scale_xy[::-1]))
    curves = []
    for x1, y1, x2, y2 in boxes_xyxy / np.tile(scale_xy, 2):
        if min(x2 - x1, y2 - y1) < SMALLEST_SIDE:
            continue
        rows, columns = _core(y1, y2, grey.shape[0]), _core(x1, x2, grey.shape[1])
        along_x = np.log1p(across[rows].mean(0))
        along_y = np.log1p(down[:, columns].mean(1))
        curves.append([_at_sides(along_x, x1, x2, width), _at_sides(along_y, y1, y2, height)])
    return np.array(curves, dtype=np.float64).reshape(-1, 2, len(LOG_SIZES))


def _core(low: float, high: float, end: int) -> slice:
    middle, reach = (low + high) / 2, (high - low) * CORE
    start = min(max(0, int(middle - reach)), end - 1)
    return slice(start, max(start + 1, min(end, int(middle + reach) + 1)))


def _at_sides(profile: np.ndarray, low: float, high: float, end: float) -> np.ndarray:
    """Return the profile at both sides of a resized box, in the mean of those that lie in the picture."""
    reach = (high - low) / 2 * np.exp(LOG_SIZES)
    sides = (low + high) / 2 + np.array([-reach, reach])
    values = np.interp(sides, np.arange(len(profile)) + 0.5, profile)
    inside = (sides >= BORDER) & (sides <= end - BORDER)
    total, count = np.where(inside, values, 0.0).sum(0), inside.sum(0)
    curve: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    known = ~np.isnan(curve)
    return curve - curve[known].mean() if known.any() else curve


def find_excess(outlines: Sequence[np.ndarray], seed: int = 0) -> Optional[Tuple[float, float]]:
    """Return ln(box / object) of widths and of heights, or None where the pictures do not tell.

    outlines: of each frame, by ``measure_outlines``.
    They do not tell where there are fewer than LEAST_BOXES boxes, where the curve does not look like outlines, or where
    resampled frames (bootstrap) give other answers.
    """
    if sum(len(curves) for curves in outlines) < LEAST_BOXES:
        return None
    known = np.array([(~np.isnan(curves)).sum(0) for curves in outlines])  # (frames, 2, sizes)
    sums = np.array([np.nansum(curves, 0) for curves in outlines])
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    excesses: List[float] = []
    for axis in range(2):
        fits = []
        for weights in [np.ones(len(sums)), *draws]:
            count = weights @ known[:, axis]
            if not count.all():
                return None
            fits.append(_fit(weights @ sums[:, axis] / count))
        excess, explained = fits[0]
        error = float(np.std([excess_of_draw for excess_of_draw, _ in fits[1:]]))
        if explained < LEAST_EXPLAINED or error > MOST_ERROR or abs(excess) >= EXCESSES[-1] - 1e-9:
            return None
        excesses.append(float(np.clip(excess, -MOST_EXCESS, MOST_EXCESS)))
    return excesses[0], excesses[1]


def _fit(curve: np.ndarray) -> Tuple[float, float]:
    """Return the excess of the best fit, and the share of the curve's variance that it explains."""
    excesses, designs, inverses = _grid()
    factors = inverses @ curve  # (tried, 4)
    errors = ((np.einsum("tsk,tk->ts", designs, factors) - curve) ** 2).sum(1)
    errors[(factors[:, 2:] < -1e-9).any(1)] = np.inf  # edges inside of the outline are stronger than those outside
    best = int(np.argmin(errors))
    variance = float(((curve - curve.mean()) ** 2).sum())
    return float(excesses[best]), 1.0 - float(errors[best]) / max(variance, 1e-12)


@lru_cache(maxsize=None)
def _grid() -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, of all that is tried, the excess, the (sizes, 4) design and its pseudo-inverse (Penrose 1955)."""
    excesses, designs = [], []
    for excess in EXCESSES:
        for width in WIDTHS:
            at = (LOG_SIZES + excess) / width
            step, peak = 1.0 / (1.0 + np.exp(1.702 * at)), np.exp(-at * at / 2)  # logistic: a normal step within 1 %
            for with_step, with_peak in ((1, 1), (1, 0), (0, 1)):
                designs.append([np.ones_like(at), LOG_SIZES, with_step * step, with_peak * peak])
                excesses.append(excess)
    stacked = np.array(designs).transpose(0, 2, 1)
    return np.array(excesses), stacked, np.linalg.pinv(stacked)
