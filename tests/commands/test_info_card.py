"""`edgedet info --html`: a page that says what the file holds, and stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from axe import faults_of, why_no_axe
from browser import chromium, why_no_browser

from edgedet import demo
from edgedet.cli import main
from edgedet.info.card import make_card
from edgedet.info.info import info_of


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))


def test_the_card_says_what_the_demos_int8_file_is_and_how_it_was_judged(tmp_path: Path):
    path = tmp_path / "card.html"
    assert main(["info", str(demo.INT8), "--html", str(path)]) == 0
    page = path.read_text(encoding="utf-8")
    text = text_of(page)
    info = info_of(demo.INT8)
    gate = info.report["gate"]
    assert f"Accuracy gate: PASSED. {gate['figure']} {gate['value']:.4g}" in text
    for fact in ("512 x 512 pixels, int8, 1 class", info.sha256, info.source_sha256, "street.mp4: 64 to calibrate"):
        assert fact in text
    assert f"edgedet run --camera 0 --web {demo.INT8.name}" in text
    assert not re.search(r"<script|https?://|<link|<img", page)  # it stands alone


def test_what_the_file_does_not_say_is_said():
    info = replace(info_of(demo.INT8), report={})
    text = text_of(make_card(info))
    assert "Neither verified nor judged" in text
    assert "does not say under which licence" in text
    refused = replace(info, report={"gate": {"verdict": "UNSURE", "value": 0.9, "figure": "F1", "required": 0.97}})
    assert "Accuracy gate: UNSURE. F1 0.9, 0.97 required" in text_of(make_card(refused))


def test_a_checkpoint_is_exported_and_not_run():
    text = text_of(make_card(info_of(demo.WEIGHTS)))
    assert f"edgedet export --weights {demo.WEIGHTS.name}" in text
    assert "edgedet run" not in text


def test_names_of_classes_are_text_and_no_markup():
    info = replace(info_of(demo.INT8), class_names=("<script>alert(1)</script>",))
    assert "<script" not in make_card(info)


@pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser()))
@pytest.mark.skipif(why_no_axe() is not None, reason=str(why_no_axe()))
@pytest.mark.parametrize("dark", [False, True])
def test_the_card_fits_a_phone_and_axe_finds_no_fault(tmp_path: Path, dark: bool):
    path = tmp_path / "card.html"
    path.write_text(make_card(info_of(demo.INT8)), encoding="utf-8")
    with chromium((360, 740), dark) as driver:
        driver.get(path.as_uri())
        driver.execute_script("document.querySelector('details').open = true")
        assert driver.execute_script("return document.documentElement.scrollWidth") == 360
        assert faults_of(driver) == []
