"""The running edgedet as one zip file, so that another machine measures with the same code; no pip is needed there."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

HOST_PACKAGES = ("edgedet.export", "edgedet.calibration", "edgedet.benchmarks")
_LEFT_OUT = {"__pycache__", "studies"}
_WHEN = (1980, 1, 1, 0, 0, 0)  # the same files make the same bytes, so the archive's hash names its content


def write_archive(path: Path) -> None:
    """Write the package with its data files, without the studies."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(_files()):
            archive.writestr(zipfile.ZipInfo(name, _WHEN), file.read_bytes(), zipfile.ZIP_DEFLATED)


def _files() -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file); the host folders of a checkout lie outside edgedet/ (decision 0001)."""
    for package in ("edgedet", *HOST_PACKAGES):
        folder = Path(next(iter(import_module(package).__path__)))
        for file in folder.rglob("*"):
            parts = file.relative_to(folder).parts
            if file.is_file() and not _LEFT_OUT.intersection(parts) and not _is_link(folder, parts):
                yield "/".join((*package.split("."), *parts)), file


def _is_link(folder: Path, parts: tuple[str, ...]) -> bool:
    return any((folder / Path(*parts[: n + 1])).is_symlink() for n in range(len(parts)))
