"""Plots of `edgedet bench --html`: ticks, labels that cover nothing, bars in proportion, colours of the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib", reason="plots need the bench extra")

from edgedet.benchmarks.plotting import (
    COLOURS,
    Axis,
    Series,
    draw_chart,
    draw_stacked_bars,
    label_points,
    svg_from_figure,
)

X = Axis("x")


def ticks_beside(figure) -> list[str]:
    """Return what stands left of the vertical axis, within its limits."""
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    figure.draw_without_rendering()
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    return [label.get_text() for value, label in ticks if low <= value <= high]


def boxes_of_labels(figure) -> list:
    (axes,) = figure.axes
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in axes.texts]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (60.0, 80.0, ["60", "65", "70", "75", "80"]),
        (0.14, 1.1, ["0.2", "0.5", "1"]),
        (2.0, 40.0, ["2", "5", "10", "20"]),
        (1.0, 90000.0, ["1", "10", "100", "1000", "10000"]),
    ],
)
def test_a_logarithmic_axis_has_ticks_over_any_range(low: float, high: float, expected: list[str]) -> None:
    ticks = ticks_beside(draw_chart([Series("a", [(0, low), (1, high)])], X, Axis("y", log=True)))
    assert set(ticks) >= set(expected)
    assert len(ticks) <= 9


def test_an_axis_begins_at_zero_only_where_it_is_told_to() -> None:
    series = [Series("a", [(0, 40.0), (1, 50.0)])]
    assert ticks_beside(draw_chart(series, X, Axis("y", zero=True)))[0] == "0"
    assert float(ticks_beside(draw_chart(series, X, Axis("y")))[0]) >= 39


def test_names_stand_in_place_of_numbers_and_nothing_between_them() -> None:
    figure = draw_chart([Series("a", [(0, 1.0), (1, 2.0)])], Axis("phi", ticks={0: "D0", 1: "D1"}), Axis("y"))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["D0", "D1"]


def test_labels_of_near_dots_cover_one_another_nowhere() -> None:
    """Four dots in one place and twenty on a line: some labels find no room, those that are there are readable."""
    near = Series("a", [(1.0, 1.0)] * 4, ["abcdef"] * 4, line=False)
    many = Series("b", [(1 + index / 20, 2 - index / 20) for index in range(20)], ["label"] * 20)
    figure = draw_chart([near, many], X, Axis("y"))
    boxes = boxes_of_labels(figure)
    assert 8 <= len(boxes) < 24
    area = figure.axes[0].bbox
    for index, a in enumerate(boxes):
        assert area.x0 <= a.x0
        assert a.x1 <= area.x1
        assert not any(a.overlaps(b) for b in boxes[index + 1 :])


def test_the_first_labels_have_the_first_choice() -> None:
    figure = draw_chart([Series("a", [(0.5, 0.5)] * 12, line=False)], X, Axis("y"))
    written = label_points(figure.axes[0], [(0.5, 0.5)] * 12, [f"name {i}" for i in range(12)], ["red"] * 12)
    assert 1 < len(written) < 12
    assert [text.get_text() for text in written] == [f"name {i}" for i in range(len(written))]


def test_the_ninth_series_has_the_first_colour_dashed() -> None:
    figure = draw_chart([Series(f"n{index}", [(0, index), (1, index)]) for index in range(COLOURS + 1)], X, Axis("y"))
    first, *_, ninth = figure.axes[0].lines
    assert first.get_color() == ninth.get_color()
    assert (first.get_linestyle(), ninth.get_linestyle()) == ("-", "--")


@pytest.mark.parametrize(("relative", "expected"), [(False, [1.0, 1.0, 9.0, 0.0]), (True, [0.1, 1.0, 0.9, 0.0])])
def test_bars_are_in_proportion_to_all_or_to_themselves(relative: bool, expected: list[float]) -> None:
    """The first part of both rows, then the second."""
    figure = draw_stacked_bars([("a", [1.0, 9.0]), ("b", [1.0, 0.0])], ("first", "second"), "ms", relative)
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx(expected)
    assert "10 ms" in [text.get_text() for text in figure.axes[0].texts]


def test_names_are_escaped() -> None:
    assert "<b>" not in svg_from_figure(draw_chart([Series("<b>", [(1, 1)], ["<b>"])], Axis("<b>"), Axis("<b>")))
    assert "<b>" not in svg_from_figure(draw_stacked_bars([("<b>", [1.0])], ("<b>",), "ms"))


def test_a_name_is_no_formula() -> None:
    """A file may be called $x$."""
    assert "$a_b$" in svg_from_figure(draw_stacked_bars([("$a_b$", [1.0])], ("part",), "ms"))


def test_an_svg_has_the_pages_colours_only_and_is_the_same_each_time() -> None:
    def drawn() -> str:
        series = [Series(f"n{i}", [(0, i), (1, i + 1)], ["p", "q"]) for i in range(COLOURS)]
        return svg_from_figure(draw_chart(series, X, Axis("y")))

    svg = drawn()
    assert svg == drawn()
    ElementTree.fromstring(svg)
    assert set(re.findall(r"--\w+", svg)) == {"--ink", "--soft", "--rule", *(f"--c{i}" for i in range(COLOURS))}
    assert "#a" not in svg
    assert "http" not in svg
