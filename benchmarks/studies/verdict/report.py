"""The study's table and picture: what the verdict without labels says of each file, beside the AP that it keeps."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.benchmarks.studies.verdict.detections import load, load_outlines
from edgedet.judge.agreement import compare_detections, keep_above
from edgedet.judge.gate.perturbation import MOVES_XY
from edgedet.judge.gate.pseudo_labels import FLOOR_SHARE, FloatRuns, PseudoLabels
from edgedet.judge.gate.verdict import FAILED, PASSED, UNSURE, verdict_without_labels
from edgedet.postprocess import DEFAULT_SCORE

OLD_MIN_F1 = 0.97  # of the gate before: at IoU 0.5 and at IoU 0.85
GOOD, BAD, ODD = 0.99, 0.97, 1.05  # of AP kept; beyond ODD a file does not do what the float model does, but better
CERTAIN = 1.645  # standard errors: 5 % are beyond, on one side
GROUPS = (
    ("more than 105 %", ODD, np.inf),
    ("99 to 105 %", GOOD, ODD),
    ("97 to 99 %", BAD, GOOD),
    ("below 97 %", 0.0, BAD),
)
FLOOR = DEFAULT_SCORE * FLOOR_SHARE
OUTLINES = "float_outlines.npz"


def add_verdicts(rows: Sequence[dict[str, Any]], cache: Path) -> list[dict[str, Any]]:
    """Return the rows with the verdict on the judge frames: value, its error, the old gate's F1s."""
    labels: dict[str, tuple[PseudoLabels, FloatRuns]] = {}
    result = []
    for row in rows:
        folder = folder_of(cache, row["scene"])
        if row["scene"] not in labels:
            still = _loaded(folder / "float_judge.npz")
            moved = [_loaded(folder / f"float_judge_moved_{dx}_{dy}.npz") for dx, dy in MOVES_XY]
            runs = FloatRuns(still, moved, load_outlines(folder / OUTLINES))
            labels[row["scene"]] = PseudoLabels(runs, DEFAULT_SCORE), runs
        pseudo, runs = labels[row["scene"]]
        detections = _loaded(folder / f"{row['variant'].replace(' ', '_')}_judge.npz")
        verdict = verdict_without_labels(pseudo, runs.still, detections)
        reference = [keep_above(item, DEFAULT_SCORE) for item in runs.still]
        agreement = compare_detections([keep_above(item, DEFAULT_SCORE) for item in detections], reference)
        figures = {"value": verdict.value, "low": verdict.low, "verdict": verdict.verdict, "labels": verdict.boxes}
        old = min(agreement.f1 or 0.0, agreement.tight or 0.0)
        result.append({**row, **figures, "old_f1": old, "images": verdict.images})
    return result


def folder_of(cache: Path, scene: str) -> Path:
    """Return where a scene's detections are kept."""
    return cache / scene.replace(",", "").replace(" ", "_")


def _loaded(path: Path) -> list[Any]:
    return [keep_above(item, FLOOR) for item in load(path)]


def halves(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the files that the limit is chosen on, and the others: by a hash of the name, fixed beforehand."""
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for row in rows:
        parts[zlib.crc32(f"{row['scene']}|{row['variant']}".encode()) % 2].append(row)
    return parts


def best_limit(rows: Sequence[dict[str, Any]], figure: str = "value") -> float:
    """Return the limit, in steps of 0.005, that parts good files from bad ones best; of several the middle."""
    good, bad = _good_and_bad(rows, figure)
    limits = np.arange(0.80, 1.05, 0.005)
    sums = np.array([(good >= limit).mean() + (bad < limit).mean() for limit in limits])
    return float(np.round(np.median(limits[sums >= sums.max() - 1e-9]), 3))


def _good_and_bad(rows: Sequence[dict[str, Any]], figure: str) -> tuple[np.ndarray, np.ndarray]:
    kept, values = np.array([row["kept"] for row in rows]), np.array([row[figure] for row in rows])
    return values[kept >= GOOD], values[kept < BAD]


def parting(rows: Sequence[dict[str, Any]]) -> str:
    """Return how well each figure parts good files from bad ones at its own best limit, without an answer UNSURE.

    Of the files that were judged on pictures with labels, which the verdict does not see.
    """
    part = [row for row in rows if row["kept_where_judged"] is not None]
    lines = ["| figure, on the same pictures | best limit | good: not below it | bad: below it |", "|---|---|---|---|"]
    for name, figure in (("AP by a person's labels", "kept_where_judged"), ("AP without labels", "value")):
        good, bad = _good_and_bad(part, figure)
        limit = best_limit(part, figure)
        passed, refused = int((good >= limit).sum()), int((bad < limit).sum())
        lines.append(
            f"| {name} | {limit:g} | {passed} of {len(good)} ({100 * passed / len(good):.0f} %) | "
            f"{refused} of {len(bad)} ({100 * refused / len(bad):.0f} %) |"
        )
    return "\n".join(lines)


def is_certain(row: dict[str, Any]) -> bool:
    """Return whether the labels suffice to say that a good file is not a bad one, or a bad one not a good one."""
    if row["kept"] >= GOOD:
        return bool(row["kept"] - CERTAIN * row["error"] >= BAD)
    return bool(row["kept"] < BAD and row["kept"] + CERTAIN * row["error"] < GOOD)


def is_wholly(row: dict[str, Any]) -> bool:
    """Return whether a file's whole interval, 90 %, is that of a good file, or that of a bad one."""
    reach = CERTAIN * row["error"]
    return bool(row["kept"] - reach >= GOOD or row["kept"] + reach < BAD)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of verdicts by AP kept, old gate and new."""
    lines = [
        "| AP kept, by labels | files | passed by F1 0.97 | PASSED | UNSURE | FAILED |",
        "|---|---|---|---|---|---|",
    ]
    for name, low, high in GROUPS:
        group = [row for row in rows if low <= row["kept"] < high]
        counts = [sum(row["verdict"] == verdict for row in group) for verdict in (PASSED, UNSURE, FAILED)]
        old = sum(row["old_f1"] >= OLD_MIN_F1 for row in group)
        lines.append(f"| {name} | {len(group)} | {old} | {counts[0]} | {counts[1]} | {counts[2]} |")
    return "\n".join(lines)


SUMMARY = (
    "| files | good: PASSED | good: PASSED or UNSURE | good up to 105 %: PASSED | bad: FAILED |",
    "|---|---|---|---|---|",
)


def summary(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures that were promised, of these files: a line of the table that begins with SUMMARY."""
    good = [row for row in rows if row["kept"] >= GOOD]
    near = [row for row in good if row["kept"] <= ODD]
    bad = [row for row in rows if row["kept"] < BAD]

    def share(part: list[dict[str, Any]], *verdicts: str) -> str:
        hits = sum(row["verdict"] in verdicts for row in part)
        return f"{hits} of {len(part)} ({100 * hits / max(len(part), 1):.0f} %)"

    cells = [share(good, PASSED), share(good, PASSED, UNSURE), share(near, PASSED), share(bad, FAILED)]
    return f"| {name} | {' | '.join(cells)} |"


def details(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown line a file."""
    lines = [
        "| model | file | AP kept | of the mean AP | F1, the lower | kept without labels | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['scene']} | {row['variant']} | {100 * row['kept']:.1f} ± {100 * row['error']:.1f} % | "
        f"{100 * row['kept_of_mean']:.1f} ± {100 * row['error_of_mean']:.1f} % | "
        f"{row['old_f1']:.3f} | {row['value']:.3f} | {row['verdict']} |"
        for row in sorted(rows, key=lambda row: (row["scene"], -row["kept"]))
    ]
    return "\n".join(lines)


def picture(rows: Sequence[dict[str, Any]], limit: float, path: Path) -> None:
    """Draw AP kept by labels against both measures without labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, key, edge, name in zip(
        figure.subplots(1, 2),
        ("old_f1", "value"),
        (OLD_MIN_F1, limit),
        ("F1 against the float model, the lower of two IoUs", "AP kept on the float model's detections"),
        strict=True,
    ):
        for data, marker, colour in (("cards", "o", "tab:blue"), ("street", "s", "tab:orange")):
            part = [row for row in rows if row["scene"].startswith(data)]
            axes.scatter(
                [row["kept"] for row in part], [row[key] for row in part], 22, colour, marker, alpha=0.7, label=data
            )
        axes.axhline(edge, color="black", linewidth=1, label=f"limit {edge:g}")
        axes.axvspan(BAD, GOOD, color="0.9", zorder=0)
        axes.set_xlabel("AP kept, by labels (grey: either verdict is right)")
        axes.set_ylabel(name)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
