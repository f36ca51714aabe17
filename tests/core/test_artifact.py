"""Metadata that edgedet did not write is refused in one line, whatever stands in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from media import META

from edgedet.artifact import ArtifactMeta
from edgedet.cli import main
from edgedet.errors import ArtifactError

HOSTILE = [None, -1, 0, 1e308, float("nan"), "x", "", [], {}, [[]], True, 10**30, [1, 2, 3], ["a"]]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value inside of lists and objects."""
    yield from [place] if place else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def changed(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    values = copy.deepcopy(values)
    owner = values
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    return values


VALUES = json.loads(META.to_json())


@pytest.mark.parametrize("place", list(places(VALUES)), ids=lambda place: ".".join(map(str, place)))
def test_any_value_in_the_metadata_gives_a_model_or_one_line(
    place: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in HOSTILE:
        Path("model.fake").write_text(json.dumps({"meta": changed(VALUES, place, value), "boxes": []}))
        code = main(["info", "model.fake"])
        errors = capsys.readouterr().err
        assert (code, len(errors.splitlines())) in ((0, 0), (2, 1)), (value, errors)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "input_hw"), ["512", "512"]),
        (("spec", "input_hw"), [0, 512]),
        (("spec", "num_classes"), 2.5),
        (("spec", "std_rgb"), [0.5, 0.5, 0.0]),
        (("spec", "anchor_scale"), float("inf")),
        (("precision",), 8),
        (("versions",), ["0.2"]),
    ],
)
def test_a_value_of_another_kind_is_refused(place: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(ArtifactError, match=f"metadata is damaged .*{place[-1]} is "):
        ArtifactMeta.from_json(json.dumps(changed(VALUES, place, value)))


def test_json_that_is_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(ArtifactError, match="nested too deeply"):
        ArtifactMeta.from_json("[" * 200_000)
