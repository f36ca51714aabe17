"""The live page by keyboard and for screen readers: axe-core finds no fault in any of its views."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from axe import faults_of, needs_axe
from browser import chromium, needs_browser
from hand import text_of
from waiting import wait_until
from web_page import TOKEN, Page, page, result, stats

from edgedet.types import Track

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")
VIEWER = "viewer-0123456789ab"
CAMERAS = (stats("door"), stats("yard"), stats("shed", "lost", "no frame for 10 s"))


@contextlib.contextmanager
def living(one: Page) -> Iterator[None]:
    """Put results of two cameras ten times a second until the block ends."""
    over = threading.Event()

    def put() -> None:
        while not over.wait(0.1):
            for camera in ("door", "yard"):
                one.put(result(90, camera, (0, 0, 1), age_ms=50.0))

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def has_history(driver: Any) -> bool:
    return bool(driver.execute_script("return document.querySelectorAll('#history .u-legend').length === 3"))


def focus_by_tab(driver: Any, selector: str, most: int = 30) -> None:
    """Press TAB until an element is reached."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    for _ in range(most):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        if driver.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return
    pytest.fail(f"{selector} is not reached by TAB")


@needs_browser
@needs_axe
@pytest.mark.parametrize(("size_wh", "dark"), [((1440, 1200), False), ((360, 740), True)])
def test_axe_finds_no_fault_in_any_view(size_wh: tuple[int, int], dark: bool):
    with page(CAMERAS, TOKEN) as one, living(one), chromium(size_wh, dark) as driver:
        driver.get(f"http://127.0.0.1:{one.port}/")
        assert faults_of(driver) == []  # the form that asks for the token
        driver.get(f"http://127.0.0.1:{one.port}/?token={TOKEN}")
        for view in ("all", "camera=door", "camera=shed"):
            driver.execute_script(f"location.hash = '{view}'")
            if view != "camera=shed":  # which has delivered nothing
                wait_until(lambda: has_history(driver))
            driver.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
            assert faults_of(driver) == [], view
            assert driver.execute_script("return document.documentElement.scrollWidth") == size_wh[0], view


@needs_browser
def test_a_camera_is_enlarged_and_left_by_keyboard():
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with page(CAMERAS) as one, living(one), chromium() as driver:
        driver.get(f"http://127.0.0.1:{one.port}/")
        wait_until(lambda: text_of(driver, "badge") == "1 of 3 silent")
        focus_by_tab(driver, ".preview")
        ActionChains(driver).send_keys(Keys.ENTER).perform()
        wait_until(lambda: text_of(driver, "subject") == "door")
        assert not driver.execute_script("return document.getElementById('screen').hidden")
        focus_by_tab(driver, "#picker input")
        ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()
        wait_until(lambda: text_of(driver, "subject") == "yard")
        driver.back()
        wait_until(lambda: text_of(driver, "subject") == "door")


def class_table(driver: Any) -> list[list[str]]:
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('#classes tr')].map("
            "(row) => [...row.cells].map((cell) => cell.textContent))"
        )
    )


@needs_browser
def test_objects_are_counted_where_they_are_followed_and_boxes_elsewhere():
    """Ten frames of the same two persons: two objects, or twenty boxes."""
    tracks = tuple(Track(id, 0, 0.8, (16.0, 16.0, 96.0, 80.0), True) for id in (1, 2))
    for followed, heading, since_start in ((tracks, "Objects", "2"), (None, "Boxes", "20")):
        with page(CAMERAS) as one, chromium() as driver:
            for _ in range(10):
                one.put(result(90, "door", (0, 0), tracks=followed))
            driver.get(f"http://127.0.0.1:{one.port}/#camera=door")
            rows = [["Class", "Boxes now", f"{heading} since start"], ["person", "2", since_start]]
            wait_until(lambda rows=rows, driver=driver: class_table(driver) == rows)
            driver.get(f"http://127.0.0.1:{one.port}/#all")  # all cameras together
            wait_until(lambda driver=driver: text_of(driver, "subject") == "3 cameras")
            assert class_table(driver) == rows


@needs_browser
def test_the_history_is_drawn_and_said_in_numbers():
    with page(CAMERAS) as one, living(one), chromium() as driver:
        driver.get(f"http://127.0.0.1:{one.port}/#camera=door")
        wait_until(lambda: has_history(driver))
        label = driver.find_element("id", "history-boxes").get_attribute("aria-label")
        assert label == "Boxes in a frame over the last ten minutes, person: now 2.0, least 2.0, most 2.0"
        last = "return document.querySelector('#history-table tbody tr:last-child td:last-child').textContent"
        wait_until(lambda: driver.execute_script(last) == "3.0")  # two persons and a car


@needs_browser
def test_a_viewers_slider_is_shut_from_the_start():
    with page(token=TOKEN, viewer_token=VIEWER) as one, chromium() as driver:
        one.put(result(90))
        driver.get(f"http://127.0.0.1:{one.port}/?token={VIEWER}")
        wait_until(lambda: text_of(driver, "score-help") == "Your token lets you look and change nothing.")
        assert not driver.find_element("id", "score").is_enabled()
