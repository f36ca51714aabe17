"""Zones and lines changed on the page: the configuration file keeps all else, and what is wrong changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.errors import InputError
from edgedet.events.zones import Line, Zone
from edgedet.runner.config import read_settings
from edgedet.runner.places import PlacesFile, RunningPlaces

pytest.importorskip("yaml", reason="PyYAML is not installed")
pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed")

TEXT = """\
# our house
score: 0.4
cameras:
  door:   # by the street
    source: "rtsp://10.0.0.7/stream"
    objects: {person: 0.5}
    zones:
      yard:   # up to the hedge
        points: [[0.1, 0.5], [0.9, 0.5], [1.0, 1.0]]
        dwell_s: 10
      path: {points: [[0, 0], [1, 0], [1, 1]], objects: [person], score: 0.6}
    lines:
      gate: {from: [0.5, 0.2], to: [0.5, 0.9]}
    only_in: [yard]
  street: 0   # USB
events: {folder: happened}
"""
TRIANGLE = {"points": [[0.12345678, 0.5], [1, 0], [1, 1]]}


@pytest.fixture
def places(tmp_path: Path) -> RunningPlaces:
    path = tmp_path / "edgedet.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return RunningPlaces(PlacesFile(path, read_settings), read_settings(path).rules, ("person", "car"))


def test_places_are_given_as_they_stand_in_the_file(places: RunningPlaces):
    assert places.of("door") == {
        "zones": {
            "yard": {"points": [[0.1, 0.5], [0.9, 0.5], [1.0, 1.0]], "dwell_s": 10},
            "path": {"points": [[0, 0], [1, 0], [1, 1]], "objects": ["person"], "score": 0.6},
        },
        "lines": {"gate": {"from": [0.5, 0.2], "to": [0.5, 0.9]}},
    }
    assert places.of("street") == {"zones": {}, "lines": {}}


def test_what_is_saved_unchanged_leaves_the_file_as_it_is(places: RunningPlaces):
    places.save("door", places.of("door"))
    assert places.file.path.read_text() == TEXT


def test_changes_are_written_and_comments_and_all_else_stay(places: RunningPlaces):
    wanted = places.of("door")
    wanted["zones"]["yard"]["points"][0] = [0.2, 0.6]
    del wanted["zones"]["path"]
    wanted["lines"]["gate"]["objects"] = ["car"]
    wanted["zones"]["new"] = TRIANGLE
    places.save("door", wanted)
    changed = TEXT.replace("[[0.1, 0.5], [0.9", "[[0.2, 0.6], [0.9")
    changed = changed.replace(
        "      path: {points: [[0, 0], [1, 0], [1, 1]], objects: [person], score: 0.6}\n",
        "      new: {points: [[0.1235, 0.5], [1, 0], [1, 1]]}\n",
    )
    changed = changed.replace("to: [0.5, 0.9]}", "to: [0.5, 0.9], objects: [car]}")
    assert places.file.path.read_text() == changed
    assert places.file.path.stat().st_mode & 0o777 == 0o640
    new = places.rules.of("door")
    assert [place.name for place in new.places] == ["yard", "new", "gate"]
    assert new.required == ("yard",)
    assert new.classes == {"person": 0.5}


def test_a_camera_of_one_line_gets_zones_and_loses_them_again(places: RunningPlaces):
    places.save("street", {"zones": {"road": TRIANGLE}, "lines": {"kerb": {"from": [0, 0.5], "to": [1, 0.5]}}})
    text = places.file.path.read_text()
    assert text.startswith(TEXT[: TEXT.index("  street")])
    road, kerb = places.rules.of("street").places
    assert road == Zone("road", ((0.1235, 0.5), (1, 0), (1, 1)))
    assert kerb == Line("kerb", (0, 0.5), (1, 0.5))
    places.save("street", {"zones": {}, "lines": {}})
    assert places.rules.of("street").places == ()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"zones": {"a": {"points": [[0, 0], [1, 0]]}}}, r"wanted a list of 3 or more"),
        ({"zones": {"a": {"points": [[0, 0], [1, 0], [2, 1]]}}}, r"wanted a number from 0 to 1; got 2"),
        ({"zones": {"a": {"points": [[0, 0], [0.5, 0.5], [1, 1]]}}}, r"zone a is empty"),
        ({"zones": {"a": {**TRIANGLE, "colour": "red"}}}, r"there is no such key"),
        ({"zones": {"a": TRIANGLE, "": TRIANGLE}}, r"each of the zones must have a name"),
        ({"zones": {"a": [1]}}, r"each of the zones must have a name and values"),
        ({"zones": {"yard": TRIANGLE, "a": {**TRIANGLE, "objects": ["dog"]}}}, r"this model has no class dog"),
        ({"zones": {"a": TRIANGLE}}, r"only_in names yard, which is no zone of this camera"),
        ({"zones": {"yard": {**TRIANGLE, "score": None}}}, r"and nothing else"),
        ({"zones": {"yard": {"points": [[[[0]]]]}}}, r"and nothing else"),
        (
            {"zones": {"yard": TRIANGLE}, "lines": {"yard": {"from": [0, 0], "to": [1, 1]}}},
            r"is the name of a zone and",
        ),
    ],
)
def test_what_cannot_be_used_is_told_and_changes_nothing(places: RunningPlaces, wanted: dict, told: str):
    rules = places.rules.of("door")
    with pytest.raises(InputError, match=told) as raised:
        places.save("door", wanted)
    assert ".tmp" not in str(raised.value)
    assert places.file.path.read_text() == TEXT
    assert [one.name for one in places.file.path.parent.iterdir()] == ["edgedet.yaml"]
    assert places.rules.of("door") is rules


def test_a_file_that_was_broken_meanwhile_is_told_and_kept(places: RunningPlaces):
    for text, told in (
        (TEXT.replace("source: ", "sauce: "), r"edgedet.yaml:5: cameras.door.sauce"),
        (TEXT.replace("street: 0", "road: 0"), r"has no camera street any more"),
    ):
        places.file.path.write_text(text)
        with pytest.raises(InputError, match=told):
            places.save("street", {"zones": {"road": TRIANGLE}})
        assert places.file.path.read_text() == text


def test_rules_of_the_other_cameras_stay_as_they_are(places: RunningPlaces):
    """Objects before them are not taken out of their zones."""
    before = places.rules.of("door")
    places.save("street", {"zones": {"road": TRIANGLE}})
    assert places.rules.of("door") == before
