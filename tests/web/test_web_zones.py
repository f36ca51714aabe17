"""Zones and lines on the page: drawn by mouse and keys in a headless Chromium, saved, and taken over by a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe import faults_of, needs_axe
from browser import chromium, needs_browser
from cameras import mjpeg_camera
from hand import Hand, complaints, text_of
from installs import ROOT
from media import SIZE_WH, write_fake_model
from waiting import wait_until
from web_page import TOKEN, ask, page, result, stats

from edgedet.errors import InputError
from edgedet.events.store import read_events

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")
VIEWER = "viewer-0123456789ab"
CAMERAS = (stats("door"), stats("yard"))
YARD = {"points": [[0.1, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9]], "dwell_s": 10}


@dataclass
class FakePlaces:
    """Keeps what is saved; refuses a zone called "bad"."""

    kept: dict[str, dict[str, Any]] = field(default_factory=lambda: {"door": {"zones": {"lawn": YARD}, "lines": {}}})

    def of(self, camera: str) -> dict[str, Any]:
        return self.kept.get(camera, {"zones": {}, "lines": {}})

    def save(self, camera: str, places: Any) -> None:
        if "bad" in places["zones"]:
            raise InputError("edgedet.yaml:7: bad zone.")
        self.kept[camera] = json.loads(json.dumps(places))


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def test_only_who_may_change_things_changes_zones():
    places, wanted = FakePlaces(), json.dumps({"zones": {"a": YARD}, "lines": {}})
    with page(CAMERAS, TOKEN, viewer_token=VIEWER, places=places) as one:
        assert ask(one.port, "/zones", method="POST", body=wanted)[0] == 401
        assert ask(one.port, "/zones.json")[0] == 401
        assert ask(one.port, "/zones-page")[0] == 401
        status, _, text = ask(one.port, "/zones", bearer(VIEWER), method="POST", body=wanted)
        assert (status, text) == (403, "this token lets you look and change nothing\n")
        evil = ask(
            one.port, "/zones", f"Cookie: edgedet={TOKEN}", "Origin: http://evil.example", method="POST", body=wanted
        )
        assert evil[0] == 403
        assert ask(one.port, "/zones", bearer(TOKEN))[0] == 405
        assert places.kept == FakePlaces().kept
        status, _, body = ask(one.port, "/zones.json?camera=door", bearer(VIEWER))
        assert (status, json.loads(body)["zones"]) == (200, {"lawn": YARD})
        status, _, body = ask(one.port, "/zones?camera=yard", bearer(TOKEN), method="POST", body=wanted)
        assert (status, json.loads(body)) == (200, {"saved": "yard"})
        assert places.kept["yard"] == json.loads(wanted)
        assert "web: zones and lines of yard were changed on the page" in one.said


def test_zones_that_cannot_be_used_are_refused_with_the_reason():
    with page(CAMERAS, places=FakePlaces()) as one:
        for body, told in (
            ('{"zones": {"bad": {}}, "lines": {}}', "edgedet.yaml:7: bad zone.\n"),
            ("[1, 2]", "wanted zones and lines as JSON\n"),
            ("{", "wanted zones and lines as JSON\n"),
            ("[" * 60000, "wanted zones and lines as JSON\n"),
        ):
            assert ask(one.port, "/zones", method="POST", body=body)[::2] == (400, told)
        assert ask(one.port, "/zones?camera=roof", method="POST", body="{}")[0] == 404
    with page(CAMERAS) as one:
        assert ask(one.port, "/zones.json")[0] == 404
        status, _, text = ask(one.port, "/zones", method="POST", body="{}")
        assert (status, text) == (
            404,
            "zones belong to a configuration file with events: edgedet run --config FILE\n",
        )


def items(driver: Any) -> list[str]:
    """The names in the list beside the picture."""
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('#list li')].map((one) => one.querySelector('input').value)"
        )
    )


def save(driver: Any) -> str:
    driver.find_element("id", "save").click()
    wait_until(lambda: text_of(driver, "saved"))
    return text_of(driver, "saved")


def near(points: list[list[float]]) -> Any:
    return pytest.approx(sum(points, []), abs=0.01)


@needs_browser
def test_zones_and_lines_are_drawn_moved_named_and_saved_by_mouse(tmp_path: Path):
    places = FakePlaces()
    with page(CAMERAS, TOKEN, places=places, events=tmp_path) as one, chromium() as driver:
        one.put(result(90, "door"))
        driver.get(f"http://127.0.0.1:{one.port}/?token={TOKEN}")
        wait_until(lambda: driver.find_element("id", "to-zones").is_displayed())
        driver.find_element("id", "to-zones").click()
        wait_until(lambda: items(driver) == ["lawn"])
        wait_until(lambda: driver.execute_script("return document.querySelector('#picture image') !== null"))
        hand = Hand(driver)  # the picture has 160 x 120 pixels
        driver.find_element("id", "draw-zone").click()
        for corner in ((16, 12), (80, 12), (80, 36)):
            hand.drag(corner)
        hand.drag((17, 13))  # its first corner again
        wait_until(lambda: items(driver) == ["lawn", "zone-1"])
        hand.press("path", "\t")  # over the name, which is chosen
        driver.find_element("id", "draw-line").click()
        hand.drag((40, 60))
        hand.drag((40, 110))
        wait_until(lambda: items(driver) == ["lawn", "path", "line-1"])
        hand.drag((150, 5))  # nothing is chosen
        hand.drag((100, 84), (100, 72))  # the lawn as a whole goes up by a tenth
        hand.drag((144, 48), (144, 60))  # its second corner comes back
        assert save(driver) == "Saved in the configuration file; it holds from the next frame on."
        assert complaints(driver) == []
    saved = places.kept["door"]
    assert sum(saved["zones"]["path"]["points"], []) == near([[0.1, 0.1], [0.5, 0.1], [0.5, 0.3]])
    lawn = saved["zones"]["lawn"]
    assert sum(lawn["points"], []) == near([[0.1, 0.4], [0.9, 0.5], [0.9, 0.8], [0.1, 0.8]])
    assert lawn["dwell_s"] == 10  # what the page does not draw stays
    line = saved["lines"]["line-1"]
    assert [*line["from"], *line["to"]] == near([[0.25, 0.5], [0.25, 110 / 120]])


@needs_browser
def test_the_picture_of_a_camera_that_delivers_late_comes_by_itself():
    with page(CAMERAS, places=FakePlaces()) as one, chromium() as driver:
        driver.get(f"http://127.0.0.1:{one.port}/zones-page#camera=door")
        wait_until(lambda: any("503" in entry["message"] for entry in driver.get_log("browser")))
        one.put(result(90, "door"))
        wait_until(lambda: driver.execute_script("return document.querySelector('#picture image') !== null"))


@needs_browser
def test_zones_are_drawn_and_changed_by_keys_alone():
    from selenium.webdriver.common.keys import Keys

    places = FakePlaces()
    with page(CAMERAS, places=places) as one, chromium() as driver:
        one.put(result(90, "door"))
        driver.get(f"http://127.0.0.1:{one.port}/zones-page#camera=door")
        wait_until(lambda: items(driver) == ["lawn"])
        hand = Hand(driver)
        driver.find_element("id", "draw-zone").send_keys(Keys.ENTER)
        hand.press(" ", *[Keys.ARROW_RIGHT] * 40, " ", *[Keys.ARROW_DOWN] * 40, " ", Keys.ENTER)
        wait_until(lambda: items(driver) == ["lawn", "zone-1"])
        driver.execute_script("document.querySelector('[data-corner=\"0\"]').focus()")
        hand.press(*[Keys.ARROW_LEFT] * 4, "+", Keys.ARROW_UP)
        corners = driver.execute_script("return [...document.querySelectorAll('.corner')].map((one) => one.ariaLabel)")
        assert corners[0] == "Corner 1 of zone-1: 49 %, 50 %"
        assert len(corners) == 4
        hand.press(Keys.CONTROL + "z" + Keys.NULL)
        save(driver)
        assert sum(places.kept["door"]["zones"]["zone-1"]["points"], []) == near(
            [[0.49, 0.5], [0.545, 0.5], [0.6, 0.5], [0.6, 0.6]]
        )
        assert complaints(driver) == []


@needs_browser
def test_a_viewer_sees_zones_and_changes_none_and_what_is_refused_is_told():
    with page(CAMERAS, TOKEN, viewer_token=VIEWER, places=FakePlaces()) as one, chromium() as driver:
        one.put(result(90, "door"))
        driver.get(f"http://127.0.0.1:{one.port}/zones-page?token={VIEWER}")
        wait_until(lambda: items(driver) == ["lawn"])
        assert text_of(driver, "hint") == "Your token lets you look and change nothing."
        controls = "#list input, #list button, #draw-zone, #save"
        assert not any(one.is_enabled() for one in driver.find_elements("css selector", controls))
        Hand(driver).drag((80, 84), (80, 60))
        assert not driver.find_element("id", "save").is_enabled()
        driver.delete_all_cookies()
        driver.get(f"http://127.0.0.1:{one.port}/zones-page?token={TOKEN}")
        wait_until(lambda: items(driver) == ["lawn"])
        name = driver.find_element("css selector", "#list input")
        name.clear()
        name.send_keys("bad\t")
        assert save(driver) == "edgedet.yaml:7: bad zone.\n"


@needs_browser
@needs_axe
@pytest.mark.parametrize(("size_wh", "dark"), [((1440, 900), False), ((360, 740), True)])
def test_axe_finds_no_fault_and_the_page_fits_a_phone(size_wh: tuple[int, int], dark: bool):
    places = FakePlaces()
    places.kept["door"]["lines"]["gate"] = {"from": [0.2, 0.2], "to": [0.8, 0.2]}
    with page(CAMERAS, places=places) as one, chromium(size_wh, dark) as driver:
        one.put(result(90, "door"))
        driver.get(f"http://127.0.0.1:{one.port}/zones-page")
        wait_until(lambda: items(driver) == ["lawn", "gate"])
        driver.execute_script("document.querySelector('#list input').focus()")
        assert len(driver.find_elements("css selector", ".corner")) == 4
        assert faults_of(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth") == size_wh[0]


CONFIG = """\
model: model.fake   # ours
threads: 1
cameras:
  door: {url}
events: {{folder: happened, clips: {{fps: 0}}}}
web: {{listen: "127.0.0.1:0"}}
"""


@needs_browser
def test_a_run_takes_a_drawn_zone_over_without_losing_the_stream(tmp_path: Path):
    """The fake model's person stands at (64, 144) of 256 x 192: inside of what is drawn."""
    from selenium.webdriver.common.keys import Keys

    pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed")
    write_fake_model(tmp_path / "model.fake")
    config = tmp_path / "edgedet.yaml"
    with mjpeg_camera(20, SIZE_WH) as camera, chromium() as driver:
        config.write_text(CONFIG.format(url=camera.url))
        command = [sys.executable, "-m", "edgedet", "run", "--config", "edgedet.yaml"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as run:
            try:
                found = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in run.stderr)
                address = next(match[0] for match in found if match)
                driver.get(f"{address}zones-page")
                wait_until(lambda: driver.execute_script("return document.querySelector('#picture image') !== null"))
                driver.find_element("id", "draw-zone").click()
                hand = Hand(driver)
                for corner in ((20, 100), (120, 100), (120, 180), (20, 180)):
                    hand.drag(corner)
                hand.press(Keys.ENTER)
                wait_until(lambda: items(driver) == ["zone-1"])
                assert save(driver).startswith("Saved")
                wait_until(lambda: any(event["entered"] == ["zone-1"] for event in read_events(tmp_path / "happened")))
            finally:
                run.terminate()
            assert "0 gaps" in run.stdout.read()
    text = config.read_text()
    assert text.startswith("model: model.fake   # ours\nthreads: 1\ncameras:\n  door:\n    source: http")
    assert re.search(r"zones:\n +zone-1: \{points: \[\[0\.07\d*, 0\.52\d*\]", text)
