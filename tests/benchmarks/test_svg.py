"""Plots of `edgedet bench --html`: ticks, labels that cover nothing, bars in proportion."""

from __future__ import annotations

import re

import pytest

from edgedet.benchmarks.latency.svg import COLOURS, WIDTH, Axis, Series, chart, stacked_bars

X = Axis("x")


def ticks_beside(svg: str) -> list[str]:
    """Return what stands left of the vertical axis."""
    return re.findall(r'<text class="small" x="58" y="[\d.]+" text-anchor="end">([^<]+)<', svg)


def labels_of(svg: str) -> list[tuple[float, float, float, float]]:
    """Return the boxes of labels that are letters, 7 pixels a character and 12 high, as on a wide screen."""
    found = []
    pattern = r'<text class="small" x="([\d.]+)" y="([\d.]+)" text-anchor="(start|middle|end)">([a-z]+)<'
    for x, y, anchor, text in re.findall(pattern, svg):
        width = 7.0 * len(text)
        left = float(x) - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        found.append((left, float(y) - 12, left + width, float(y)))
    return found


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (60.0, 80.0, ["60", "65", "70", "75", "80"]),
        (0.14, 1.1, ["0.2", "0.5", "1"]),
        (2.0, 40.0, ["2", "5", "10", "20"]),
        (1.0, 90000.0, ["1", "10", "100", "1000", "10000"]),
    ],
)
def test_a_logarithmic_axis_has_ticks_over_any_range(low: float, high: float, wanted: list[str]) -> None:
    found = ticks_beside(chart([Series("a", [(0, low), (1, high)])], X, Axis("y", log=True)))
    assert set(found) >= set(wanted)
    assert len(found) <= 9


def test_an_axis_begins_at_zero_only_where_it_is_told_to() -> None:
    series = [Series("a", [(0, 40.0), (1, 50.0)])]
    assert ticks_beside(chart(series, X, Axis("y", zero=True)))[0] == "0"
    assert float(ticks_beside(chart(series, X, Axis("y")))[0]) >= 39


def test_names_stand_in_place_of_numbers_and_nothing_between_them() -> None:
    svg = chart([Series("a", [(0, 1.0), (1, 2.0)])], Axis("phi", ticks={0: "D0", 1: "D1"}), Axis("y"))
    assert re.findall(r'y="326" text-anchor="middle">([^<]+)<', svg) == ["D0", "D1"]


def test_labels_of_near_dots_cover_one_another_nowhere() -> None:
    """Four dots in one place and twenty on a line: some labels find no room, those that are there are readable."""
    near = Series("a", [(1.0, 1.0)] * 4, ["abcdef"] * 4, line=False)
    many = Series("b", [(1 + index / 20, 2 - index / 20) for index in range(20)], ["label"] * 20)
    boxes = labels_of(chart([near, many], X, Axis("y")))
    assert 8 <= len(boxes) < 24
    for index, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[2] <= WIDTH
        for b in boxes[index + 1 :]:
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def test_the_ninth_series_has_the_first_colour_dashed() -> None:
    svg = chart([Series(f"n{index}", [(0, index), (1, index)]) for index in range(COLOURS + 1)], X, Axis("y"))
    assert 'class="line s0"' in svg
    assert 'class="line s0 d1"' in svg


@pytest.mark.parametrize(("relative", "wanted"), [(False, [54.0, 486.0, 54.0, 0.0]), (True, [54.0, 486.0, 540.0, 0.0])])
def test_bars_are_in_proportion_to_all_or_to_themselves(relative: bool, wanted: list[float]) -> None:
    svg = stacked_bars([("a", [1.0, 9.0]), ("b", [1.0, 0.0])], ("first", "second"), "ms", relative)
    assert [float(width) for width in re.findall(r'width="([\d.]+)"', svg)] == pytest.approx(wanted)
    assert ">10 ms<" in svg


def test_names_are_escaped() -> None:
    assert "<b>" not in chart([Series("<b>", [(1, 1)], ["<b>"])], Axis("<b>"), Axis("<b>"))
    assert "<b>" not in stacked_bars([("<b>", [1.0])], ("<b>",), "ms")
