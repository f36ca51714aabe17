"""The picture of `edgedet plan --picture`: names can be read, and the choice is named."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("matplotlib", reason="pictures need the bench extra")

from edgedet.benchmarks.planner.picture import draw_plan
from edgedet.benchmarks.planner.plan import PlanRequest, make_plan


@pytest.mark.parametrize("board", ["orin-nano", "raspberry-pi-5", "jetson-nano"])
@pytest.mark.parametrize("fps", [5.0, 30.0])
def test_names_cover_neither_each_other_nor_a_dot_and_the_choice_is_named(board: str, fps: float) -> None:
    plan = make_plan(PlanRequest(board=board, fps=fps))
    figure = draw_plan(plan)
    (axes,) = figure.axes
    names = [text for text in axes.texts if not text.get_text().endswith(" ms")]
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in names]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    dots = axes.transData.transform([(row.ms, row.ap.value) for row in plan.rows if row.ap.value is not None])
    assert sum(box.count_contains(dots) for box in boxes) == 0
    assert len(names) >= 10
    written = {text.get_text() for text in names}
    for row, role in ((plan.choice.best, "best"), (plan.choice.runner_up, "runner-up")):
        if row is not None:
            assert any(text.startswith(f"{role}: {row.variant}") for text in written)
