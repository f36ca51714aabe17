"""`edgedet label` in a headless Chromium: boxes by mouse and keys, from the model's detections to a COCO file."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe import faults_of, needs_axe
from browser import chromium, needs_browser
from hand import Hand, complaints
from installs import ROOT
from media import SIZE_WH, SOURCE_BOXES_XYXY, write_fake_model
from waiting import read_until, wait_until

from edgedet.judge.labels import LabelledImage, read_dataset

cv2 = pytest.importorskip("cv2", reason="edgedet label reads pictures by OpenCV")
pytest.importorskip("tornado", reason="the page is served by tornado")
pytest.importorskip("tqdm", reason="needs the web extra")
PERSON, CAR = SOURCE_BOXES_XYXY


@contextlib.contextmanager
def labelling(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run `edgedet label` on two pictures until the block ends; yield the process and its port."""
    (folder / "scene").mkdir(exist_ok=True)
    for name, level in (("a", 60), ("b", 180)):
        cv2.imwrite(str(folder / f"scene/{name}.png"), np.full((SIZE_WH[1], SIZE_WH[0], 3), level, np.uint8))
    model = write_fake_model(folder / "model.fake")
    command = [sys.executable, "-m", "edgedet", "label", str(folder / "scene"), "--model", str(model), "--port", "0"]
    run = subprocess.Popen(
        [*command, "--out", str(folder / "out"), "--threads", "1", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield run, int(read_until(run.stderr, r"http://127\.0\.0\.1:(\d+)/")[1])
    finally:
        run.terminate()
        run.communicate(timeout=60)


def images_of(folder: Path) -> list[LabelledImage]:
    return list(read_dataset(folder / "out/labels.json").images)


class LabelHand(Hand):
    def boxes(self) -> int:
        return int(self.driver.execute_script("return document.querySelectorAll('#boxes li').length"))


@needs_browser
def test_boxes_are_accepted_corrected_and_added_by_mouse_and_keys(tmp_path: Path):
    from selenium.webdriver.common.keys import Keys

    with labelling(tmp_path, "--json") as (run, port), chromium() as driver:
        driver.get(f"http://127.0.0.1:{port}/")
        hand = LabelHand(driver)
        wait_until(lambda: hand.text("picture-title") == "Picture 1 of 2: 00001-a.png")
        assert hand.boxes() == 2
        # The person's box is moved by 20 and 10 pixels; then its lower right corner is drawn to (150, 170).
        hand.drag((64, 80), (84, 90))
        hand.drag((PERSON[2] + 20, PERSON[3] + 10), (150, 170))
        hand.drag((210, 20), (250, 60))  # a new box, of the class that was selected last
        hand.press("2")  # which becomes a car
        wait_until(lambda: hand.boxes() == 3)
        hand.press(Keys.ENTER)
        wait_until(lambda: hand.text("picture-title").startswith("Picture 2 of 2"))
        # The second picture by keys alone: TAB to the first box, delete it; move the other one by two steps.
        driver.execute_script("document.querySelector('#boxes button').focus()")
        hand.press(Keys.DELETE)
        wait_until(lambda: hand.boxes() == 1)
        driver.execute_script("document.querySelector('#boxes button').focus()")
        hand.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        driver.find_element("id", "accept").click()
        wait_until(lambda: hand.text("progress").startswith("2 of 2 pictures done, 4 boxes"))
        driver.find_element("id", "finish").click()
        wait_until(lambda: "You may close this page" in hand.text("progress"))
        out, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        figures = json.loads(out)
        assert (figures["schema"], figures["pictures"], figures["boxes"], figures["left"]) == (1, 2, 4, 0)
        assert complaints(driver) == []
    first, second = images_of(tmp_path)
    np.testing.assert_allclose(
        first.boxes_xyxy, [[PERSON[0] + 20, PERSON[1] + 10, 150, 170], CAR, [210, 20, 250, 60]], atol=1.0
    )
    assert first.class_ids.tolist() == [0, 1, 1]
    np.testing.assert_allclose(second.boxes_xyxy, [[CAR[0] + 2, CAR[1], CAR[2] + 2, CAR[3]]], atol=0.1)


@needs_browser
@needs_axe
@pytest.mark.parametrize(("size_wh", "dark"), [((1440, 900), False), ((360, 740), True)])
def test_axe_finds_no_fault_and_the_page_fits_a_phone(tmp_path: Path, size_wh: tuple[int, int], dark: bool):
    with labelling(tmp_path) as (_, port), chromium(size_wh, dark) as driver:
        driver.get(f"http://127.0.0.1:{port}/")
        hand = LabelHand(driver)
        wait_until(lambda: hand.boxes() == 2)
        driver.execute_script("document.querySelector('#boxes button').focus()")
        assert faults_of(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth") == size_wh[0]


def ask(port: int, method: str, path: str, body: str = "", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


def test_other_sites_change_nothing_and_a_session_goes_on(tmp_path: Path):
    with labelling(tmp_path) as (_, port):
        good = json.dumps({"boxes": [{"box": [1, 2, 30, 40], "class": 0, "accepted": True}], "done": True})
        assert ask(port, "POST", "/boxes/0", good, Origin="http://evil.example") == 403
        assert ask(port, "GET", "/work.json", Host="evil.example") == 403
        assert ask(port, "POST", "/boxes/0", "{}") == 400
        assert ask(port, "POST", "/boxes/7", good) == 400
        assert ask(port, "GET", "/images/7") == 404
        assert ask(port, "GET", "/../out/work.json") == 404
        assert json.loads((tmp_path / "out/labels.json").read_text())["images"] == []
        assert ask(port, "POST", "/boxes/0", good) == 200
    assert len(images_of(tmp_path)) == 1
    with labelling(tmp_path) as (run, port):
        assert ask(port, "POST", "/finish") == 200
        out, _ = run.communicate(timeout=60)
        assert "1 picture, 1 box; 1 still to be labelled" in out
