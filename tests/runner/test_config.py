"""The configuration file: what it says, and what is wrong with it, by line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgedet import cli
from edgedet.errors import InputError
from edgedet.events.zones import Line, Zone
from edgedet.runner.config import read_options
from edgedet.runner.config_schema import EXAMPLE

pytest.importorskip("yaml", reason="PyYAML is not installed")


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        Path("edgedet.yaml").write_text(text)
        return Path("edgedet.yaml")

    return write


def test_example_is_fine_and_so_is_each_line_that_is_commented_out(write, capsys):
    assert cli.main(["config", "--example"]) == 0
    assert capsys.readouterr().out == EXAMPLE
    write(EXAMPLE)
    assert cli.main(["config", "--check", "edgedet.yaml"]) == 0
    assert capsys.readouterr().out == "edgedet.yaml is fine: 1 camera, 1 zone, 1 line; events\n"
    Path("mqtt-password").write_text("me\nsecret\n")
    write(re.sub(r"^( *)# (\w+:)", r"\1\2", EXAMPLE, flags=re.MULTILINE))
    assert cli.main(["config", "--check", "edgedet.yaml"]) == 0
    assert "MQTT, a page, recordings" in capsys.readouterr().out


def test_file_becomes_the_options_of_a_run(write):
    options = read_options(write(EXAMPLE))
    assert options.cameras == ("door=rtsp://10.0.0.7/stream",)
    assert options.model.score == 0.4
    events = options.outputs.events
    assert (events.folder, events.retention.days, events.retention.max_bytes) == (Path("happened"), 14, 10_000_000_000)
    rules = events.rules.of("door")
    assert rules.classes == {"person": 0.5}
    assert rules.places == (
        Zone("yard", ((0.1, 0.5), (0.9, 0.5), (1.0, 1.0), (0.0, 1.0)), frozenset({"person"}), 0.6, 10),
        Line("gate", (0.5, 0.2), (0.5, 0.9)),
    )


@pytest.mark.parametrize(("page", "imported"), [("", "False"), ("web: {listen: 127.0.0.1:8080}\n", "True")])
def test_what_serves_the_page_is_imported_where_the_file_asks_for_the_page(write, page, imported):
    write(f"cameras:\n  door: 0\n{page}")
    code = (
        "import sys; from pathlib import Path; from edgedet.runner.config import read_options; "
        "read_options(Path('edgedet.yaml')); print('edgedet.web.sink' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == imported


def test_camera_may_be_a_line(write):
    options = read_options(write("cameras:\n  door: 0\n  gate: http://cam/stream\n"))
    assert options.cameras == ("door=0", "gate=http://cam/stream")


def test_names_of_zones_may_have_dots_and_discovery_may_be_off_in_each_way_of_yaml(write):
    zone = "zones: {yard.left: {points: [[0, 0], [1, 0], [1, 1]]}}, only_in: [yard.left]"
    events = "events: {folder: x}\nmqtt: {broker: mqtt://hub, discovery: False}\n"
    options = read_options(write(f"cameras:\n  door: {{source: 0, {zone}}}\n{events}"))
    assert [place.name for place in options.outputs.events.rules.of("door").places] == ["yard.left"]
    assert options.outputs.mqtt.discovery == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "cameras:\n  door: {source: 0, zone: {}}\n",
            "edgedet.yaml:2: cameras.door.zone: there is no such key: did you mean zones?",
        ),
        (
            "cameras:\n  door:\n    source: 0\nscore: 1.5\n",
            "edgedet.yaml:4: score: wanted a number from 0.001 to 0.999; got 1.5.",
        ),
        (
            "score: high\ncameras: {door: 0}\n",
            "edgedet.yaml:1: score: wanted a number from 0.001 to 0.999; got 'high'.",
        ),
        (
            "cameras:\n  door:\n    source: 0\n    model: door.pth\n",
            "edgedet.yaml:4: cameras.door.model: wanted a model file (.tflite, .onnx, ",
        ),
        ("score: 0.5\n", "edgedet.yaml:1: cameras is missing."),
        ("cameras: {}\n", "edgedet.yaml:1: cameras: wanted one camera or more."),
        (
            "cameras:\n  door: 0\n  door: 1\n",
            "edgedet.yaml:3: cameras.door: it stands there twice: remove one of them.",
        ),
        ("cameras:\n  door:\n    objects: [person]\n", "edgedet.yaml:2: cameras.door: source is missing."),
        (
            "cameras:\n  door:\n    source: 0\n    zones:\n      yard:\n        points: [[0, 0], [1, 0]]\n",
            "edgedet.yaml:6: cameras.door.zones.yard.points: wanted a list of 3 or more; got a list.",
        ),
        (
            "cameras:\n  door:\n    source: 0\n    zones:\n      yard:\n        points: [[0, 0], [640, 0], [1, 1]]\n",
            "edgedet.yaml:6: cameras.door.zones.yard.points.2.1: wanted a number from 0 to 1; got 640.",
        ),
        (
            "cameras:\n  door:\n    source: 0\n    zones:\n      yard:\n        points: [[0, 0], [0.5, 0.5], [1, 1]]\n",
            "edgedet.yaml:5: cameras.door.zones.yard: zone yard is empty: its corners lie on one line.",
        ),
        (
            "cameras: {door: {source: 0, only_in: yard}}\n",
            "edgedet.yaml:1: cameras.door: only_in names yard, which is no zone",
        ),
        (
            "cameras: {door: 0}\nevents: {folder: x, keep: much}\n",
            "edgedet.yaml:2: events.keep: wanted a size such as 10GB",
        ),
        ("cameras: {door: 0}\nmqtt: {broker: hub}\n", "edgedet.yaml:1: mqtt sends events, which need a folder"),
        (
            "cameras: {door: 0}\nweb: {listen: 0.0.0.0:80}\n",
            "edgedet.yaml:2: web: --web on 0.0.0.0 is open to the network",
        ),
        ("cameras: [door\n", "edgedet.yaml:2: this is no YAML: expected"),
        ("", "edgedet.yaml is empty"),
        ("- door\n", "edgedet.yaml:1: wanted a mapping with model"),
        (
            "cameras:\n  front door: 0\n",
            "edgedet.yaml:1: cameras: a camera's name is a letter from A to Z, then letters, digits, dots, - and _; "
            "got 'front door'.",
        ),
        ("cameras: {[1, 2]: 0}\n", "edgedet.yaml:1: cameras.?: wanted a name before the colon; got a list"),
        (
            "cameras: {door: !!python/object:os.system ls}\n",
            "edgedet.yaml:1: cameras.door: wanted a text; got 'ls'.",
        ),
        ("cameras: {door: 2026-13-45}\n", "edgedet.yaml:1: cameras.door: wanted a text; got '2026-13-45'."),
        (
            "cameras: {door: 0}\ncapture: {timeout_s: .inf}\n",
            "edgedet.yaml:2: capture.timeout_s: wanted a number above 0; got inf.",
        ),
        (
            "cameras: {door: 0}\nweb: {listen: 127.0.0.1:80, token_file: edgedet.token}\n",
            "edgedet.yaml:2: web: token_file wants 16 characters or more",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write, text, error):
    Path("edgedet.token").touch()
    with pytest.raises(InputError) as refused:
        read_options(write(text))
    assert str(refused.value).startswith(error)
    assert "\n" not in str(refused.value)


def test_options_beside_a_file_are_refused_that_stand_in_it(write, capsys):
    write("cameras: {door: 0}\n")
    assert cli.main(["run", "--config", "edgedet.yaml", "--score", "0.7"]) == 2
    assert "leave out score" in capsys.readouterr().err


def test_password_of_a_broker_is_not_in_an_error(write):
    with pytest.raises(InputError) as refused:
        read_options(write("cameras: {door: 0}\nevents: {folder: x}\nmqtt: {broker: mqtt://me:secret@hub}\n"))
    assert "secret" not in str(refused.value)
