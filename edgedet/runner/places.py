"""The zones and lines of a configuration file, as the live page changes them: in the file, and in the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence

from ..errors import InputError, require
from ..events.watch import Rulebook
from ..events.zones import Zone
from ..files import atomic_path, read_text
from .run import Settings, check_classes

KINDS = ("zones", "lines")
_WIDE = 10_000  # columns: a line of the file is not broken
_DECIMALS = 4  # of points: a tenth of a pixel


@dataclass(frozen=True)
class PlacesFile:
    """The configuration file; ``read`` returns its settings, or raises InputError that names the file and the line."""

    path: Path
    read: Callable[[Path], Settings]

    def of(self, camera: str) -> Dict[str, Any]:
        """Return the zones and lines of a camera by name, as they may stand in the file; raises as ``read``."""
        by_kind: Dict[str, Any] = {kind: {} for kind in KINDS}
        for place in self.read(self.path).rules.of(camera).places:
            values: Dict[str, Any] = {}
            if isinstance(place, Zone):
                values["points"] = [list(point) for point in place.polygon]
                if place.dwell_s is not None:
                    values["dwell_s"] = place.dwell_s
            else:
                values.update({"from": list(place.start), "to": list(place.end)})
            if place.classes is not None:
                values["objects"] = sorted(place.classes)
            if place.score:
                values["score"] = place.score
            by_kind["zones" if isinstance(place, Zone) else "lines"][place.name] = values
        return by_kind

    def write(self, camera: str, places: Mapping[str, Any], check: Callable[[Settings], None]) -> Settings:
        """Write a camera's zones and lines into the file, keep all else in it as it stands, and return its settings.

        places: as ``of`` returns them. ``check`` may refuse the settings. Raises InputError where they cannot be used,
        and leaves the file as it was.
        """
        self.read(self.path)  # what is wrong in it already is told with its line
        yaml = require("ruamel.yaml", "saving zones").YAML()
        yaml.preserve_quotes = True
        yaml.width = _WIDE
        document = yaml.load(read_text(self.path, "it is the configuration file of this run"))
        cameras = document["cameras"]
        if camera not in cameras:
            raise InputError(
                f"{self.path} has no camera {camera} any more, because it was changed since this run began: start "
                "edgedet again."
            )
        if not isinstance(cameras[camera], dict):
            cameras[camera] = yaml.map(source=cameras[camera])
        for kind in KINDS:
            _replace(yaml, cameras[camera], kind, _checked(places, kind))
        with atomic_path(self.path) as temporary:
            temporary.chmod(self.path.stat().st_mode & 0o777)
            with open(temporary, "w", encoding="utf-8") as file:
                yaml.dump(document, file)
            try:
                settings = self.read(temporary)
                check(settings)
            except InputError as error:
                raise InputError(str(error).replace(str(temporary), str(self.path))) from None
        return settings


@dataclass(frozen=True)
class RunningPlaces:
    """The zones and lines of a run that goes on."""

    file: PlacesFile
    rules: Rulebook
    class_names: Sequence[str]

    def of(self, camera: str) -> Dict[str, Any]:
        """Return a camera's zones and lines as PlacesFile does."""
        return self.file.of(camera)

    def save(self, camera: str, places: Mapping[str, Any]) -> None:
        """Write them into the file; they hold from the next frame on. Raises InputError where they cannot be used."""
        settings = self.file.write(camera, places, lambda new: check_classes(new.rules, self.class_names))
        self.rules.replace(settings.rules)


def _checked(places: Mapping[str, Any], kind: str) -> Dict[str, Dict[str, Any]]:
    """Return one kind of places with rounded points; what their values mean is checked when the file is read."""
    named = places.get(kind, {})
    if not isinstance(named, dict) or not all(
        name.strip() and isinstance(values, dict) for name, values in named.items()
    ):
        raise InputError(f"each of the {kind} must have a name and values.")
    return {name.strip(): {key: _plain(value) for key, value in values.items()} for name, values in named.items()}


def _plain(value: Any, depth: int = 2) -> Any:
    """Return a text, a number, or a list of these, or of such lists; numbers are rounded."""
    if isinstance(value, list) and depth:
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InputError("zones and lines have points, names of classes, a score and a time, and nothing else.")
    return round(value, _DECIMALS) if isinstance(value, float) else value


def _replace(yaml: Any, camera: Any, kind: str, places: Mapping[str, Mapping[str, Any]]) -> None:
    """Change a camera's zones or lines in the loaded document where they differ, so that comments stay."""
    there = camera.get(kind)
    if not places:
        if there is not None:
            del camera[kind]
        return
    if not isinstance(there, dict):
        there = camera[kind] = yaml.map()
    for name in [name for name in there if name not in places]:
        del there[name]
    for name, values in places.items():
        if not isinstance(there.get(name), dict):
            there[name] = yaml.map()
            there[name].fa.set_flow_style()
        place = there[name]
        for key in [key for key in place if key not in values]:
            del place[key]
        for key, value in values.items():
            if place.get(key) != value:
                place[key] = value
                if isinstance(value, list):
                    place[key] = yaml.seq(value)
                    place[key].fa.set_flow_style()
