"""The run that a configuration file of ``edgedet run --config`` describes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from ..engines.base import check_threads, default_threads
from ..events.clips import ClipRules
from ..events.sink import EventOptions
from ..events.store import Retention
from ..events.watch import Rulebook, Rules
from ..events.zones import Place, Zone
from ..postprocess import DEFAULT_SCORE
from ..stream.cameras.capture import CaptureOptions
from ..stream.cameras.recovery import Recovery
from ..stream.sources import SourceOptions
from .config_schema import read_config
from .models import ModelOptions
from .outputs import OutputOptions
from .places import PlacesFile, RunningPlaces
from .run import RunOptions, Settings
from .yaml_file import given, read_yaml


def read_options(path: Path) -> RunOptions:
    """Return the run that a configuration file describes.

    Raises InputError with the file and the line where something in it cannot be used.
    """
    values: Dict[str, Any] = read_yaml(path, read_config)
    cameras: Mapping[str, Mapping[str, Any]] = values["cameras"]
    threads = values.get("threads", default_threads())
    check_threads(threads)
    model = ModelOptions(values.get("model"), threads, values.get("score", DEFAULT_SCORE), values.get("delegate"))
    return RunOptions(
        source=None,
        cameras=tuple(f"{name}={camera['source']}" for name, camera in cameras.items()),
        loop=False,
        opening=_source_options(values.get("capture", {})),
        model=model,
        outputs=_outputs(values),
        web=values.get("web"),
        motion=values.get("motion"),
        models={name: camera.get("model") for name, camera in cameras.items()},
        reload=lambda: read_settings(path),
        places=lambda rules, class_names: RunningPlaces(PlacesFile(path, read_settings), rules, class_names),
    )


def read_settings(path: Path) -> Settings:
    """Return the settings of a configuration file that may change during the run; raises as ``read_options``."""
    values = read_yaml(path, read_config)
    return Settings(values.get("score", DEFAULT_SCORE), _rulebook(values["cameras"]))


def _source_options(values: Mapping[str, Any]) -> SourceOptions:
    names = {"size_wh": "size", "fps": "fps", "scaled_wh": "scale", "timeout_s": "timeout_s"}
    same = {name: name for name in ("pixel_format", "transport", "decoder")}
    recovery = Recovery(**given(values, timeout_s="timeout_s", retries="retries"))
    options = SourceOptions(CaptureOptions(**given(values, **names, **same)), recovery)
    return replace(options, **given(values, every="every", max_fps="max_fps"))


def _outputs(values: Mapping[str, Any]) -> OutputOptions:
    events = values.get("events")
    recording = values.get("recording", {})
    options = OutputOptions(
        save=None if "folder" not in recording else f"{recording['folder'].rstrip(os.sep)}{os.sep}",
        jsonl=values.get("jsonl"),
        go_on=values.get("on_write_error") == "go-on",
        events=None if events is None else _event_options(events, values["cameras"]),
        mqtt=values.get("mqtt"),
    )
    return replace(options, **given(recording, segment_s="segment_s", save_fps="fps", keep_bytes="keep"))


def _event_options(values: Mapping[str, Any], cameras: Mapping[str, Mapping[str, Any]]) -> EventOptions:
    retention = Retention(**given(values, days="days", max_bytes="keep"))
    return EventOptions(values["folder"], _rulebook(cameras), ClipRules(**values.get("clips", {})), retention)


def _rulebook(cameras: Mapping[str, Mapping[str, Any]]) -> Rulebook:
    return Rulebook({name: camera.get("rules", Rules()) for name, camera in cameras.items()})


def summarise(options: RunOptions) -> str:
    """Return a line on what a configuration file describes."""
    events = options.outputs.events
    places: Sequence[Place] = ()
    if events is not None:
        places = [place for rules in events.rules.cameras().values() for place in rules.places]
    zones = sum(isinstance(place, Zone) for place in places)
    parts = [
        f"{len(options.cameras)} camera{'s' if len(options.cameras) != 1 else ''}",
        f"{zones} zone{'s' if zones != 1 else ''}",
        f"{len(places) - zones} line{'s' if len(places) - zones != 1 else ''}",
    ]
    outputs = {
        "events": events,
        "MQTT": options.outputs.mqtt,
        "a page": options.web,
        "recordings": options.outputs.save,
    }
    named = [name for name, value in outputs.items() if value is not None]
    return ", ".join(parts) + (f"; {', '.join(named)}" if named else "")
