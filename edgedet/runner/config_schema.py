"""What may stand in the configuration file of ``edgedet run --config``: its keys, their values, and an example."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

from ..engines.table import PUBLIC_ENGINES, engine_for
from ..events.mqtt_options import MqttOptions, broker_of, credentials
from ..events.watch import Rules
from ..events.zones import Line, Place, Zone
from ..files import read_text
from ..motion.gate import MotionRules
from ..stream.cameras.address import split_camera
from ..stream.cameras.capture import PIXEL_FORMATS, TRANSPORTS
from ..stream.cameras.pipelines import DECODERS
from ..stream.outputs.segments import parse_bytes
from ..web.defaults import HEALTHY_IF, TOKEN_VARIABLE, UNHEALTHY_S, VIEWER_TOKEN_VARIABLE
from .yaml_file import (
    Node,
    Reader,
    converted,
    file_path,
    given,
    is_false,
    list_of,
    mapping_of,
    number,
    one_of,
    pair_of,
    section,
    text,
    whole,
    yes_or_no,
)

if TYPE_CHECKING:
    from ..web.sink import WebOptions

EXAMPLE = """\
# A configuration of `edgedet run --config edgedet.yaml`; `edgedet config --check edgedet.yaml` checks it.
# Only cameras are needed. Points are shares of the picture: [0, 0] is its top left corner, [1, 1] its bottom right one.

# model: edgedet-out/model.onnx     # default: the newest in edgedet-out/, else the demo
# threads: 2                        # default: all cores
score: 0.4                          # detections that are less sure are left out

cameras:
  door:
    source: rtsp://10.0.0.7/stream  # or a number, csi:0, http://..., a GStreamer pipeline
    # model: edgedet-out/door.onnx  # this camera's own model; a file that several cameras name is opened once
    objects: {person: 0.5}          # classes that make events, with the least score; default: all
    zones:
      yard:
        points: [[0.1, 0.5], [0.9, 0.5], [1.0, 1.0], [0.0, 1.0]]
        objects: [person]           # default: all
        score: 0.6                  # the least score of what counts in this zone
        dwell_s: 10                 # tell of what stays longer
    lines:
      gate: {from: [0.5, 0.2], to: [0.5, 0.9]}  # "forward" is from its left to its right
    # only_in: [yard]               # an object makes an event once it is in one of these zones

events:
  folder: happened                  # records, pictures and clips
  days: 14
  keep: 10GB                        # of files; the oldest events go
  clips: {before_s: 5, after_s: 5, fps: 5}

# motion: true                     # look only where something changed
# recording: {folder: recordings, fps: 10, keep: 50GB}
# mqtt: {broker: mqtt://10.0.0.5, password_file: mqtt-password}  # or EDGEDET_MQTT_USER and EDGEDET_MQTT_PASSWORD
# web: {listen: 127.0.0.1:8080}     # elsewhere: a token, by token_file or variable EDGEDET_TOKEN
"""

_SHARE = number(0.0, 1.0)
_SECONDS = number(0.0)
_POINT = pair_of(_SHARE)
_CLASSES = converted(list_of(text), frozenset)
_BYTES = converted(text, parse_bytes)


def _size(node: Node) -> Tuple[int, int]:
    width, height = pair_of(whole(1))(node)
    return width, height


def _objects(node: Node) -> Dict[str, float]:
    """Read names of classes, with or without the least score of each."""
    if node.yaml.id == "mapping":
        return {name: float(score) for name, score in mapping_of(_SHARE, "classes with scores")(node).items()}
    return {name: 0.0 for name in list_of(text)(node)}


def _zones(node: Node) -> Tuple[Place, ...]:
    fields = {"points": list_of(_POINT, 3), "objects": _CLASSES, "score": _SHARE, "dwell_s": number(0.0, above=True)}
    return _places(node, "zones", section(fields, ["points"]), _zone)


def _zone(name: str, values: Mapping[str, Any]) -> Place:
    rest = given(values, classes="objects", score="score", dwell_s="dwell_s")
    return Zone(name, tuple(values["points"]), **rest)


def _lines(node: Node) -> Tuple[Place, ...]:
    fields = {"from": _POINT, "to": _POINT, "objects": _CLASSES, "score": _SHARE}
    return _places(node, "lines", section(fields, ["from", "to"]), _line)


def _line(name: str, values: Mapping[str, Any]) -> Place:
    return Line(name, values["from"], values["to"], **given(values, classes="objects", score="score"))


def _places(node: Node, kind: str, reader: Reader, make: Any) -> Tuple[Place, ...]:
    def read(child: Node) -> Place:
        name = str(child.key.value)
        return converted(reader, lambda values: make(name, values))(child)  # type: ignore[no-any-return]

    return tuple(mapping_of(read, f"{kind} by name")(node).values())


def _model(node: Node) -> str:
    """Read the name of a model file."""
    name = text(node)
    if engine_for(name) is None:
        suffixes = ", ".join(suffix for engine in PUBLIC_ENGINES for suffix in engine.suffixes)
        raise node.wrong(f"wanted a model file ({suffixes}); got {name}.")
    return name


def _camera(node: Node) -> Dict[str, Any]:
    if node.yaml.id == "scalar":
        return {"source": text(node)}
    fields: Dict[str, Reader] = {
        "source": text,
        "model": _model,
        "objects": _objects,
        "zones": _zones,
        "lines": _lines,
        "only_in": list_of(text),
    }
    values: Dict[str, Any] = section(fields, ["source"])(node)
    places = (*values.get("zones", ()), *values.get("lines", ()))
    names = [place.name for place in places]
    for name in names:
        if names.count(name) > 1:
            raise node.wrong(f"{name} is the name of a zone and of a line: give them two.")
    for name in values.get("only_in", ()):
        if name not in [place.name for place in values.get("zones", ())]:
            raise node.wrong(f"only_in names {name}, which is no zone of this camera.")
    only_in = values.get("only_in")
    values["rules"] = Rules(places, values.get("objects"), None if only_in is None else tuple(only_in))
    return values


def _cameras(node: Node) -> Dict[str, Dict[str, Any]]:
    cameras: Dict[str, Dict[str, Any]] = mapping_of(_camera, "cameras by name")(node)
    if not cameras:
        raise node.wrong("wanted one camera or more.")
    for name in cameras:
        if split_camera(f"{name}=0")[0] != name:  # as NAME=SOURCE, the run would take the name for a part of the source
            raise node.wrong(
                f"a camera's name is a letter from A to Z, then letters, digits, dots, - and _; got {name!r}."
            )
    return cameras


def _motion(node: Node) -> Optional[MotionRules]:
    """Read true, false, or the numbers of MotionRules."""
    if node.yaml.id == "scalar":
        return MotionRules() if yes_or_no(node) else None
    above_0 = number(0.0, above=True)
    fields = {"threshold": above_0, "min_area": number(0.0, 1.0), "full_every_s": above_0, "idle_every_s": above_0}
    rules: MotionRules = converted(section(fields), lambda values: MotionRules(**values))(node)
    return rules


def _mqtt(node: Node) -> MqttOptions:
    fields = {
        "broker": converted(text, broker_of),
        "password_file": file_path,
        "ca": file_path,
        "cert": file_path,
        "key": file_path,
        "prefix": text,
        "node": text,
        "discovery": _discovery,
    }

    def make(values: Mapping[str, Any]) -> MqttOptions:
        host, port, tls = values["broker"]
        user, password = credentials(values.get("password_file"))
        names = {name: name for name in ("ca", "cert", "key", "prefix", "node", "discovery")}
        return MqttOptions(host, port, tls, user, password, **given(values, **names))

    options: MqttOptions = converted(section(fields, ["broker"]), make)(node)
    return options


def _discovery(node: Node) -> str:
    """Read the prefix of Home Assistant's topics, "" where the file says false."""
    return "" if is_false(node) else text(node)


def _web(node: Node) -> WebOptions:
    from ..web.guard import make_guard, place_of  # only where the file asks for the page
    from ..web.sink import WebOptions

    fields = {
        "listen": converted(text, place_of),
        "token_file": file_path,
        "viewer_token_file": file_path,
        "allow_hosts": list_of(text),
        "unhealthy_after_s": number(0.0, above=True),
        "healthy_if": one_of(*HEALTHY_IF),
    }

    def make(values: Mapping[str, Any]) -> WebOptions:
        place = values["listen"]
        token = _secret(values.get("token_file"), TOKEN_VARIABLE)
        viewer_token = _secret(values.get("viewer_token_file"), VIEWER_TOKEN_VARIABLE)
        names = ("token_file", "viewer_token_file")
        guard = make_guard(place, token, viewer_token, values.get("allow_hosts", ()), names)
        unhealthy_s = values.get("unhealthy_after_s", UNHEALTHY_S)
        return WebOptions(place, guard, unhealthy_s, values.get("healthy_if", HEALTHY_IF[0]))

    options: WebOptions = converted(section(fields, ["listen"]), make)(node)
    return options


def _secret(path: Optional[Path], variable: str) -> Optional[str]:
    if path is None:
        return os.environ.get(variable) or None
    return read_text(path, "it holds a token and nothing else").strip()  # where it is empty, ``check_token`` says so


_CLIPS = section(
    {"before_s": _SECONDS, "after_s": _SECONDS, "fps": _SECONDS, "longest_s": number(1.0), "longest_px": whole(64)}
)
_ROOT = section(
    {
        "model": _model,
        "threads": whole(1),
        "delegate": text,
        "score": number(0.001, 0.999),
        "cameras": _cameras,
        "capture": section(
            {
                "size": _size,
                "fps": number(0.0, above=True),
                "pixel_format": one_of(*PIXEL_FORMATS),
                "transport": one_of(*TRANSPORTS),
                "decoder": one_of(*DECODERS),
                "scale": _size,
                "timeout_s": number(0.0, above=True),
                "retries": whole(0),
                "max_fps": number(0.0, above=True),
                "every": whole(1),
            }
        ),
        "events": section(
            {"folder": file_path, "days": number(0.0, above=True), "keep": _BYTES, "clips": _CLIPS}, ["folder"]
        ),
        "recording": section(
            {"folder": text, "segment_s": number(1.0), "fps": number(0.0, above=True), "keep": _BYTES}, ["folder"]
        ),
        "motion": _motion,
        "jsonl": file_path,
        "on_write_error": one_of("stop", "go-on"),
        "mqtt": _mqtt,
        "web": _web,
    },
    ["cameras"],
)


def read_config(node: Node) -> Dict[str, Any]:
    """Read the whole file: the values of the keys that stand in it; raises InputError with the line of a mistake."""
    values: Dict[str, Any] = _ROOT(node)
    if "mqtt" in values and "events" not in values:
        raise node.wrong("mqtt sends events, which need a folder: name one, as events: {folder: happened}.")
    return values
