"""The state of a run for the page, and its health for other programs.

Of a camera's address only the public form is in it (``stream.cameras.address``), so no password.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple

from ..artifact import ArtifactMeta
from ..errors import InputError
from ..stream.camera_stats import CameraStats
from .figures import BOUNDS_MS, Figures
from .pictures import EncodePicture

FILE = ""  # the camera's name of a file's frames


class Places(Protocol):
    """The zones and lines of each camera, by kind ("zones", "lines") and name, as a configuration file has them."""

    def of(self, camera: str) -> Dict[str, Any]:
        """Return those of a camera; raises InputError where they cannot be read."""
        ...

    def save(self, camera: str, places: Mapping[str, Any]) -> None:
        """Change them, in the file and in the run; raises InputError where they cannot be used."""
        ...


@dataclass(frozen=True)
class Subject:
    """A run, as the page sees it.

    name:        of the source.
    facts:       of the model, as JSON can hold them.
    cameras:     gives the cameras' figures, none for a file; called from the web thread.
    score:       returns the detector's threshold; set_score changes it, or raises InputError.
    unhealthy_s: without a frame for so long it is not healthy.
    encode:      draws a result and returns a JPEG of at most so many pixels a side.
    healthy_if:  one of HEALTHY_IF: which cameras must deliver.
    events:      folder of the run's events; None where it keeps none.
    places:      what changes zones and lines; None where they cannot be changed.
    """

    name: str
    facts: Dict[str, Any]
    cameras: Callable[[], List[CameraStats]]
    figures: Figures
    score: Callable[[], float]
    set_score: Callable[[float], None]
    unhealthy_s: float
    encode: EncodePicture
    healthy_if: str = "any"
    events: Optional[Path] = None
    places: Optional[Places] = None

    def camera_names(self) -> List[str]:
        """Return the names that frames carry, in order: those of the cameras, or FILE."""
        return [camera.name for camera in self.cameras()] or [FILE]


def facts_of(model: str, meta: ArtifactMeta, threads: int) -> Dict[str, Any]:
    """Return what the page says of a model; its report is what the gate and the verification found."""
    height, width = meta.spec.input_hw
    return {
        "file": model,
        "model": meta.spec.name,
        "input": f"{width} x {height}",
        "precision": meta.precision,
        "classes": list(meta.class_names),
        "threads": threads,
        "made from": f"sha256 {meta.source_sha256}",
        "written by": ", ".join(f"{name} {version}" for name, version in meta.versions.items()),
        "report": _as_json(meta.report),
    }


def status_of(subject: Subject, viewers: int) -> Dict[str, Any]:
    """Return what changes while the run goes on, for the page; times in milliseconds or as named."""
    figures = subject.figures
    stats = {camera.name: camera for camera in subject.cameras()}
    cameras = []
    for name in stats or (FILE,):
        figures_of_camera = {
            "name": name,
            **figures.camera(name),
            "silent_s": figures.silent_s(name),
            "latest": figures.history(name, 1),
        }
        if name in stats:
            camera = stats[name]
            figures_of_camera.update(
                title=name,
                state=camera.state,
                reason=camera.reason,
                size=list(camera.size_wh),
                captured=camera.captured,
                dropped=camera.dropped,
                skipped=camera.skipped,
                stale=camera.stale,
                gaps=camera.gaps,
                gap_s=camera.gap_s,
                age_ms=camera.age_ms,
                left_out=camera.left_out,
            )
        else:
            figures_of_camera.update(title=subject.name, state="file", reason="")
        cameras.append(figures_of_camera)
    return {
        "uptime_s": figures.uptime_s(),
        "score": subject.score(),
        "viewers": viewers,
        "bounds_ms": BOUNDS_MS,
        "cameras": cameras,
        "stages": figures.stages(),
    }


def health_of(subject: Subject, camera: Optional[str] = None) -> Tuple[bool, Dict[str, Any]]:
    """Return whether frames flow, from the camera that is named or else as ``healthy_if`` says, and the figures."""
    by_camera = {name: subject.figures.silent_s(name) for name in subject.camera_names()}
    silences_s = list(by_camera.values()) if camera is None else [subject.figures.silent_s(camera)]
    silent_s = max(silences_s) if subject.healthy_if == "all" else min(silences_s)
    healthy = silent_s <= subject.unhealthy_s
    return healthy, {
        "healthy": healthy,
        "healthy_if": subject.healthy_if,
        "seconds_without_frame": round(silent_s, 3),
        "unhealthy_after_seconds": subject.unhealthy_s,
        "cameras": {camera.name: camera.state for camera in subject.cameras()},
        "seconds_by_camera": {name: round(seconds, 3) for name, seconds in by_camera.items()},
    }


def score_from(text: str) -> float:
    """Parse a threshold; raises InputError where it is no number."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"a threshold is a number between 0 and 1; got {text[:20]}.") from None


def _as_json(value: Any) -> Any:
    """Return the value; numbers that JSON does not have (NaN, infinity) become text."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
