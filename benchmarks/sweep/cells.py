"""The candidates of a sweep, what is found of each, and the file that remembers it between runs."""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet import __version__
from edgedet.benchmarks.models.family_files import hash_code
from edgedet.errors import InputError
from edgedet.files import sha256_of

LEDGER = "sweep.jsonl"
NAMES = (".names", ".json")  # beside a checkpoint they hold its class names
DONE, REFUSED, FAILED = "done", "refused", "failed"


@dataclass(frozen=True)
class Cell:
    """One candidate.

    weights:   checkpoint, or "demo". input_hw: None for the model's own. precision: "fp32" or "int8".
    classes:   the classes to keep; None for all.
    label:     what tables call the checkpoint; "" for its file's name.
    """

    weights: str
    input_hw: tuple[int, int] | None
    precision: str
    classes: tuple[str, ...] | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The name in tables: "cards 384x640 int8"."""
        size = "" if self.input_hw is None else f" {self.input_hw[0]}x{self.input_hw[1]}"
        return f"{self.label or Path(self.weights).stem}{size} {self.precision}"


@dataclass(frozen=True)
class CellResult:
    """What is known of one candidate.

    key:     a hash of everything that the result depends on.
    status:  DONE; REFUSED where the accuracy gate did not let the INT8 file pass; FAILED where something else went
             wrong. reason: of the last two.
    ap:      COCO's AP on the labelled pictures. file: relative to the sweep's folder.
    variant, input_hw: of the exported file.
    """

    key: str
    name: str
    status: str
    reason: str = ""
    file: str | None = None
    sha256: str | None = None
    variant: str | None = None
    input_hw: tuple[int, int] | None = None
    precision: str = ""
    ap: float | None = None
    images: int = 0
    seconds: float = 0.0


def cell_key(cell: Cell, data: Path, images: Path | None, calib: str | None, frames: int, limit: int | None) -> str:
    """Return a hash of the checkpoint, its class names, the choices, the labels, the frames and the code that exports.

    Pictures in folders count by names and sizes of their files: to read them all would take longer than the answer.
    """
    content = {
        "edgedet": __version__,
        "code": [hash_code("export"), hash_code("calibration"), hash_code("judge")],
        "weights": cell.weights if cell.weights == "demo" else sha256_of(cell.weights),
        "names": [] if cell.weights == "demo" else _describe_names(Path(cell.weights)),
        "input_hw": cell.input_hw,
        "precision": cell.precision,
        "classes": cell.classes,
        "data": describe_path(data),
        "images": None if images is None else describe_path(images),
        "calib": None if calib is None or cell.precision != "int8" else describe_path(Path(calib)),
        "frames": frames if cell.precision == "int8" else None,
        "limit": limit,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _describe_names(weights: Path) -> list[Any]:
    return [describe_path(file) for suffix in NAMES if (file := weights.with_suffix(suffix)).is_file()]


def describe_path(path: Path) -> Any:
    """Return the hash of a file, the names and sizes of a folder's files, or the text itself (a pattern)."""
    if path.is_file():
        return sha256_of(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [(str(file.relative_to(path)), file.stat().st_size) for file in files]
    return str(path)


def describe_unexpected(error: Exception) -> str:
    """Return one line on an error that nobody foresaw: its kind, what it says, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {said}' if said else ''} ({Path(place.filename).name}, line {place.lineno})"


class Ledger:
    """Results of all runs in one folder, a JSON line each, so that a candidate that was done is never done again."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; a last line that was cut off by a power cut is left out, and written over."""
        self._folder, self._path = folder, folder / LEDGER
        self._results: dict[str, CellResult] = {}
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        for line in whole:
            try:
                items = json.loads(line)
                items["input_hw"] = None if items["input_hw"] is None else tuple(items["input_hw"])
                result = CellResult(**items)
            except (ValueError, TypeError, KeyError):
                raise InputError(f"{self._path} is no ledger of `edgedet sweep`: name another --out.") from None
            self._results[result.key] = result
        if len(whole) < len(lines):
            with self._path.open("r+b") as file:
                file.truncate(sum(map(len, whole)))

    def get(self, key: str) -> CellResult | None:
        """Return what an earlier run found; failures are tried again, and so is what lost its file."""
        result = self._results.get(key)
        if result is None or result.status == FAILED:
            return None
        return result if result.file is None or (self._folder / result.file).is_file() else None

    def add(self, result: CellResult) -> None:
        """Remember a result; it is on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps(asdict(result)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._results[result.key] = result


def check_is_there(weights: str) -> None:
    """Raise InputError where there is no such checkpoint."""
    if weights != "demo" and not Path(weights).is_file():
        raise InputError(f"there is no checkpoint {weights}: name a file, or demo.")


def list_cells(
    weights: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    precisions: Sequence[str],
    classes: tuple[str, ...] | None,
    check: Callable[[str], None] = check_is_there,
) -> list[Cell]:
    """Return every combination, each once; raises InputError for a checkpoint that is not there."""
    for name in weights:
        check(name)
    labels = label_checkpoints(list(dict.fromkeys(weights)))
    cells = [
        Cell(name, size, precision, classes, label)
        for name, label in labels.items()
        for size in sizes
        for precision in precisions
    ]
    return list(dict.fromkeys(cells))


def label_checkpoints(weights: Sequence[str]) -> dict[str, str]:
    """Return a name for each checkpoint, all different: as short as it can be, "cards", "run1/best" or "a/best.pth"."""
    paths = {name: Path(name).resolve() if Path(name).is_file() else Path(name) for name in weights}
    labels: dict[str, str] = {}
    for name, path in paths.items():
        others = [other for key, other in paths.items() if key != name]
        candidates = ["/".join((*path.parts[-count:-1], path.stem)) for count in range(1, len(path.parts) + 1)]
        for count, candidate in enumerate(candidates, start=1):
            if all("/".join((*other.parts[-count:-1], other.stem)) != candidate for other in others):
                labels[name] = candidate
                break
        else:  # they differ in nothing but the suffix, or are one file by two names
            labels[name] = name
    return labels
