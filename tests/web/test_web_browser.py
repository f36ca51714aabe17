"""The live page in a headless Chromium, on a real run with two Motion JPEG cameras and a fake model."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, needs_browser
from cameras import MjpegCamera, mjpeg_camera
from hand import complaints, text_of
from installs import ROOT
from media import SIZE_WH, SOURCE_BOXES_XYXY, write_fake_model
from waiting import read_until
from web_page import TOKEN, page, result, stats

pytest.importorskip("cv2", reason="edgedet run reads and draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")

CAMERA_GREY = 90  # of what tests/support/streams/cameras.py shows below its number
WAIT_S = 120.0
PAGE = ROOT / "edgedet/web/page"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run edgedet until the block ends, and end it as systemd does."""
    command = [sys.executable, "-m", "edgedet", "run", str(write_fake_model(folder / "model.fake")), "--threads", "1"]
    run = subprocess.Popen(
        [*command, "--web", f"127.0.0.1:{port}", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        read_until(run.stderr, "watch it on http://")
        yield run
    finally:
        run.terminate()
        run.communicate(timeout=WAIT_S)


def camera_options(*cameras: MjpegCamera) -> list[str]:
    named = zip(("door", "yard"), cameras, strict=False)
    return [part for name, camera in named for part in ("--camera", f"{name}={camera.url}")]


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.05)


def pictures_of(driver: Any) -> int:
    return int(driver.execute_script("return Number(document.getElementById('picture').dataset.pictures || 0)"))


def previews(driver: Any) -> list[int]:
    """The number of pictures that each camera of the grid has shown."""
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('#grid canvas')].map((c) => Number(c.dataset.pictures || 0))"
        )
    )


def pixel(driver: Any, x: int, y: int) -> list[int]:
    script = f"return [...document.getElementById('picture').getContext('2d').getImageData({x}, {y}, 1, 1).data]"
    return list(driver.execute_script(script))[:3]


def number_shown(driver: Any) -> list[bool]:
    """The first row of the camera's picture: its number in binary."""
    return [pixel(driver, x, 2)[0] > 127 for x in range(4, 192, 8)]


def has_box(driver: Any, box: int) -> bool:
    """Return whether the left side of one of the fake model's boxes is drawn; the rest of the picture is grey."""
    x1, y1, _, y2 = SOURCE_BOXES_XYXY[box]
    return max(pixel(driver, x1, (y1 + y2) // 2)) - min(pixel(driver, x1, (y1 + y2) // 2)) > 100


def set_slider(driver: Any, score: float) -> None:
    wait_for(driver.find_element("id", "score").is_enabled, "the slider is open")
    driver.execute_script(
        "const slider = document.getElementById('score'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input', { bubbles: true }))",
        score,
    )


@needs_browser
def test_the_page_lives_changes_and_recovers(tmp_path: Path):
    port = free_port()
    with mjpeg_camera(20, SIZE_WH) as door, mjpeg_camera(20, SIZE_WH) as yard, chromium() as driver:
        options = camera_options(door, yard)
        with running(tmp_path, port, *options):
            driver.get(f"http://127.0.0.1:{port}/")
            wait_for(lambda: text_of(driver, "badge") == "Live", "live")
            wait_for(
                lambda: all(count > 2 for count in previews(driver)) and len(previews(driver)) == 2, "both cameras"
            )
            driver.find_element("css selector", ".preview").click()
            wait_for(lambda: pictures_of(driver) > 0, "the door, enlarged")
            assert driver.current_url.endswith("#camera=door")

            before = number_shown(driver)
            wait_for(lambda: number_shown(driver) != before, "another picture")
            assert driver.execute_script("return document.getElementById('picture').width") == SIZE_WH[0]

            assert has_box(driver, 0)
            assert has_box(driver, 1)
            set_slider(driver, 0.7)  # between the scores of the two, 0.9 and 0.6
            wait_for(lambda: has_box(driver, 0) and not has_box(driver, 1), "the second box gone")
            assert text_of(driver, "score-value") == "0.70"
            wait_for(lambda: text_of(driver, "found") == "1", "one detection")
            set_slider(driver, 0.5)
            wait_for(lambda: has_box(driver, 1), "the second box back")

            labels = driver.execute_script(
                "return [...document.querySelectorAll('#picker label')].map((l) => l.textContent)"
            )
            assert labels == ["All cameras", "door", "yard"]
            driver.execute_script("document.querySelectorAll('#picker input')[2].click()")
            wait_for(lambda: text_of(driver, "subject") == "yard", "the other camera")
            count = pictures_of(driver)
            wait_for(lambda: pictures_of(driver) > count + 2, "the other camera's pictures")

            yard.kill()
            wait_for(lambda: text_of(driver, "badge") == "Camera lost", "the loss told")
            assert text_of(driver, "notice").startswith("yard: ")
            yard.start()
            wait_for(lambda: text_of(driver, "badge") == "Live", "live again")
            assert text_of(driver, "fps") != "–"
            assert "fp32" in text_of(driver, "model")
            assert complaints(driver) == []
        wait_for(lambda: text_of(driver, "badge") in ("Run ended", "Disconnected"), "the end told")
        assert driver.execute_script("return document.getElementById('notice').hidden") is False
        while_down = complaints(driver)
        with running(tmp_path, port, *options):
            wait_for(lambda: text_of(driver, "badge") == "Live", "live after a restart")
            count = pictures_of(driver)
            wait_for(lambda: pictures_of(driver) > count, "pictures after a restart")
            # The browser itself says that nobody answered while nobody was there; nothing else is said.
            said = [line for line in while_down + complaints(driver) if not re.search(r"net::ERR_\w+", line)]
            assert said == []


@needs_browser
def test_a_camera_that_never_delivered_shows_no_other_ones_picture():
    """Its tile and its notice are its own, too."""
    yard = stats("yard", "lost", "the host is right, and does it run?", captured=0)
    with page((stats("door"), yard)) as one, chromium() as driver:
        driver.get(f"http://127.0.0.1:{one.port}/#camera=door")
        is_black = (
            "const c = document.getElementById('picture');"
            "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.every((v) => v === 0)"
        )
        wait_for(lambda: one.put(result(200, "door")) or not driver.execute_script(is_black), "the door's picture")
        driver.execute_script("document.querySelectorAll('#picker input')[2].click()")
        wait_for(lambda: text_of(driver, "subject") == "yard", "the other camera")
        one.put(result(200, "door"))
        assert driver.execute_script(is_black)
        wait_for(lambda: text_of(driver, "dropped-more") == "none captured yet", "its own tile")
        wait_for(lambda: text_of(driver, "notice").startswith("yard: "), "its own notice")
        assert text_of(driver, "notice") == "yard: the host is right, and does it run? Opening it again."


@needs_browser
def test_the_page_fits_a_phone_in_both_schemes_and_works_by_keyboard(tmp_path: Path):
    from selenium.webdriver.common.keys import Keys

    port = free_port()
    with mjpeg_camera(20, SIZE_WH) as door, running(tmp_path, port, *camera_options(door)):
        for dark in (False, True):
            with chromium((360, 740), dark) as driver:
                driver.get(f"http://127.0.0.1:{port}/")
                wait_for(lambda driver=driver: text_of(driver, "badge") == "Live", "live")
                time.sleep(0.6)  # one more event: everything is filled in
                assert driver.execute_script("return document.documentElement.scrollWidth") == 360
                wide = driver.execute_script(
                    "return [...document.querySelectorAll('main *')].filter((e) => "
                    "e.getBoundingClientRect().right > 361).map((e) => e.outerHTML.slice(0, 80))"
                )
                assert wide == []
                ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) is dark
                slider = driver.find_element("id", "score")
                wait_for(slider.is_enabled, "the slider is open")
                assert slider.accessible_name == "Score threshold"
                assert slider.size["height"] >= 44  # a finger
                before = text_of(driver, "score-value")
                slider.send_keys(Keys.ARROW_RIGHT)
                assert float(text_of(driver, "score-value")) == pytest.approx(float(before) + 0.01)
                assert complaints(driver) == []


@needs_browser
def test_a_browser_gets_in_with_the_token(tmp_path: Path):
    port = free_port()
    with mjpeg_camera(20, SIZE_WH) as door, running(tmp_path, port, *camera_options(door), "--token", TOKEN):
        with chromium() as driver:
            driver.get(f"http://127.0.0.1:{port}/")
            field = driver.find_element("id", "token")
            assert field.accessible_name == "Token"
            field.send_keys(TOKEN)
            field.submit()
            wait_for(lambda: "picture" in driver.page_source and text_of(driver, "badge") == "Live", "live")
            set_slider(driver, 0.7)
            wait_for(lambda: not has_box(driver, 1), "the threshold taken")
        with chromium() as driver:
            driver.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
            wait_for(lambda: text_of(driver, "badge") == "Live", "live")
            assert TOKEN not in driver.current_url
            assert complaints(driver) == []


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_has_the_contrast_that_wcag_wants():
    """4.5 to 1 or more for each pair of text and ground, light and dark."""
    style = (PAGE / "base.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    pairs = [(text, ground) for text in ("ink", "soft", "accent") for ground in ("card", "ground")]
    pairs += [
        ("good", "good-soft"),
        ("warn", "warn-soft"),
        ("bad", "bad-soft"),
        ("bad", "card"),
        ("accent", "accent-soft"),
    ]
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for text, ground in pairs:
            high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
