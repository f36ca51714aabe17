"""The page of events in a headless Chromium: list, filters, the day's timeline, clips that play, and axe-core."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from axe import faults_of, needs_axe
from browser import chromium, needs_browser
from hand import complaints, text_of
from happened import make_events, some_event
from waiting import wait_until
from web_page import TOKEN, page, result

from edgedet.events.store import EventStore
from edgedet.stream.outputs.fragments import can_write_fragments

pytest.importorskip("cv2", reason="events have pictures by OpenCV")
pytest.importorskip("tornado", reason="the page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")


def today_at(hour: int, minute: int = 0) -> float:
    return datetime.now().replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()


def cards(driver: Any) -> list[str]:
    return list(
        driver.execute_script("return [...document.querySelectorAll('.event .shot')].map((one) => one.ariaLabel)")
    )


def choose(driver: Any, name: str, value: str) -> None:
    driver.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('change', { bubbles: true }))",
        name,
        value,
    )


@needs_browser
def test_events_are_listed_filtered_and_chosen_by_hour_and_new_ones_come_by_themselves(tmp_path: Path):
    from selenium.webdriver.common.keys import Keys

    make_events(tmp_path, [(today_at(9), "door"), (today_at(9, 30), "street"), (today_at(14), "door")], clips=False)
    with page(events=tmp_path) as one, chromium() as driver:
        one.put(result(90))
        driver.get(f"http://127.0.0.1:{one.port}/")
        wait_until(lambda: driver.execute_script("return !document.getElementById('pages').hidden"))
        driver.find_element("link text", "Events").click()
        wait_until(lambda: len(cards(driver)) == 3)
        assert cards(driver)[0] == "Picture of person, door, 14:00:00, 1 s"
        assert text_of(driver, "day-title").endswith(": 3 events")
        loaded = "return [...document.querySelectorAll('.event img')].every((one) => one.complete && one.naturalWidth)"
        wait_until(lambda: driver.execute_script(loaded))
        choose(driver, "camera", "door")
        wait_until(lambda: len(cards(driver)) == 2)
        choose(driver, "zone", "yard")
        nine = driver.find_element("css selector", "#hours button:nth-child(10)")
        wait_until(lambda: nine.accessible_name == "9:00, 1 event")
        nine.send_keys(Keys.ENTER)  # by keyboard
        wait_until(lambda: cards(driver) == ["Picture of person, door, 09:00:00, 1 s"])
        assert nine.get_attribute("aria-pressed") == "true"
        assert driver.switch_to.active_element == nine  # the focus stays while the page is drawn anew
        driver.back()
        wait_until(lambda: len(cards(driver)) == 2)
        make_events(tmp_path, [(today_at(15), "door")], clips=False)
        wait_until(lambda: cards(driver)[0] == "Picture of person, door, 15:00:00, 1 s" and len(cards(driver)) == 3)
        driver.find_element("id", "before").click()
        wait_until(lambda: text_of(driver, "empty") == "Nothing happened here on this day." and not cards(driver))
        assert complaints(driver) == []


@needs_browser
def test_older_events_come_page_by_page(tmp_path: Path):
    store = EventStore(tmp_path)
    for minute in range(30):
        store.put(some_event(today_at(0, minute)))
    with page(events=tmp_path) as one, chromium() as driver:
        driver.get(f"http://127.0.0.1:{one.port}/events-page")
        wait_until(lambda: len(cards(driver)) == 24)
        driver.find_element("id", "older").click()
        wait_until(lambda: len(cards(driver)) == 30)
        assert len(set(cards(driver))) == 30
        assert not driver.find_element("id", "older").is_displayed()
        store.put(some_event(today_at(0, 30)))
        wait_until(lambda: len(cards(driver)) == 31)  # the page asks again, and keeps what it has
    store.close()


@needs_browser
@pytest.mark.skipif(not can_write_fragments(), reason="needs PyAV with an H.264 encoder (edgedet[record])")
def test_a_clip_plays_jumps_and_can_be_kept(tmp_path: Path):
    make_events(tmp_path, [(today_at(9), "door")], seconds=3.0)
    with page(events=tmp_path) as one, chromium() as driver:
        driver.get(f"http://127.0.0.1:{one.port}/events-page")
        wait_until(lambda: len(cards(driver)) == 1)
        assert cards(driver) == ["Play person, door, 09:00:00, 2 s"]
        driver.find_element("css selector", ".event .shot").click()
        video = "const video = document.getElementById('video'); "
        wait_until(lambda: driver.execute_script(video + "return video.videoWidth === 160 && video.currentTime > 0.2"))
        driver.execute_script(video + "video.currentTime = 2.5")
        wait_until(lambda: driver.execute_script(video + "return !video.seeking && video.currentTime >= 2.5"))
        assert driver.execute_script(video + "return video.duration") == pytest.approx(3.2, abs=0.5)
        link = driver.find_element("id", "download").get_attribute("href")
        assert "/event-clip?id=" in link
        assert link.endswith("&part=0&download")
        driver.find_element("id", "close").click()
        assert not driver.find_element("id", "player").is_displayed()
        assert complaints(driver) == []


@needs_browser
@needs_axe
@pytest.mark.parametrize(("size_wh", "dark"), [((1440, 900), False), ((360, 740), True)])
def test_axe_finds_no_fault_and_the_page_fits_a_phone(tmp_path: Path, size_wh: tuple[int, int], dark: bool):
    make_events(tmp_path, [(today_at(9), "door"), (today_at(9, 30), "street")])
    with page(events=tmp_path, token=TOKEN) as one, chromium(size_wh, dark) as driver:
        driver.get(f"http://127.0.0.1:{one.port}/events-page?token={TOKEN}")
        wait_until(lambda: len(cards(driver)) == 2)
        assert driver.current_url == f"http://127.0.0.1:{one.port}/events-page"
        assert faults_of(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth") == size_wh[0]
        driver.find_element("css selector", ".event .shot").click()
        wait_until(lambda: driver.find_element("id", "player").is_displayed())
        assert faults_of(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth") == size_wh[0]
