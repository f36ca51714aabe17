"""The page of `edgedet bench --html` in Chromium: what fits a notebook's screen and a phone's, in light and dark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_schema import DOCS
from browser import chromium, why_no_browser

pytest.importorskip("matplotlib", reason="plots need the bench extra")

from edgedet.benchmarks.latency.page import make_page
from edgedet.benchmarks.latency.result import result_from_json

pytestmark = pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser()))
TEXT_COLOUR = "return getComputedStyle(document.querySelector('svg text')).fill"


@pytest.fixture
def address(tmp_path: Path) -> str:
    result = json.loads((DOCS / "benchmarks-d0-d4-avx2.json").read_text(encoding="utf-8"))
    for row in result["models"]:
        row["ap"] = 0.3456
    (tmp_path / "page.html").write_text(make_page(result_from_json(result)), encoding="utf-8")
    return (tmp_path / "page.html").as_uri()


def test_the_table_of_models_fits_a_screen_of_1280_pixels(address: str) -> None:
    with chromium((1280, 900)) as driver:
        driver.get(address)
        table, room = driver.execute_script(
            "const t = document.querySelector('.scroll'); return [t.scrollWidth, t.clientWidth]"
        )
        assert table <= room
        assert driver.execute_script("return document.documentElement.scrollWidth") == 1280


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_only_tables_scroll_and_the_plots_text_is_seen(address: str, dark: bool) -> None:
    with chromium((360, 740), dark) as driver:
        driver.get(address)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 360
        assert driver.execute_script(
            "return [...document.querySelectorAll('svg')].every((e) => e.getBoundingClientRect().right <= 360)"
        )
        red, green, blue = map(int, driver.execute_script(TEXT_COLOUR)[4:-1].split(","))
        assert (red + green + blue > 380) is dark
