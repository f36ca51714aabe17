"""Cameras as one source: fair, fresh, and some may fail. The drivers are fakes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import closing
from itertools import islice

import pytest
from fake_driver import FakeDriver, consistent, running_camera
from media import picture
from waiting import wait_until

from edgedet.errors import MissingDependency, SourceError
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource
from edgedet.stream.loop import run_frames
from edgedet.stream.sources import open_cameras
from edgedet.types import Detections, FrameResult

np = pytest.importorskip("numpy")
pytest.importorskip("cv2", reason="the frame rate is asked by OpenCV's property")

NOTHING = Detections.empty()


def fails():
    raise SourceError("cam 9 cannot be opened.")


def cameras(openers, recovery=None, lines=None):
    report = (lambda line: None) if lines is None else lines.append
    return LiveSource(openers, lambda: False, report, recovery=recovery)


def test_cameras_take_turns_whatever_their_rates():
    """A camera of 500 frames a second and two of 100, a detector of 20: each gets a third of it."""
    openers = [
        ("fast", lambda: running_camera(period_s=0.002)),
        ("a", lambda: running_camera(period_s=0.01)),
        ("b", lambda: running_camera(period_s=0.01)),
    ]
    with closing(cameras(openers)) as source:
        wait_until(lambda: all(one.captured for one in source.stats()))
        seen = Counter()
        for frame in islice(source, 15):
            seen[frame.camera] += 1
            time.sleep(0.05)
    assert seen == {"fast": 5, "a": 5, "b": 5}
    assert all(consistent(one) for one in source.stats())


def test_the_rest_goes_on_where_one_camera_is_lost():
    openers = [("a", lambda: running_camera()), ("b", lambda: FakeDriver([picture(1)]))]
    with closing(cameras(openers, Recovery(timeout_s=0.3, retries=0))) as source:
        seen = [frame.camera for frame in islice(source, 30)]
        assert seen.count("b") == 1
        assert source.failures == ["b stopped delivering: no frame came."]


def test_frames_are_fresh_with_a_detector_ten_times_slower_than_the_camera():
    """Detection of 100 ms takes the newest frame of a camera of 10 ms; its age counts from the capture."""

    def detect(frame):
        started = time.monotonic()
        newer.append(source.stats()[0].captured - 1 - frame.index)
        time.sleep(0.1)
        inferences_s.append(time.monotonic() - started)
        return FrameResult(frame, NOTHING)

    newer, inferences_s, results = [], [], []
    source = cameras([("cam", lambda: running_camera(period_s=0.01))])
    summary = run_frames(source, [detect], [results.append], lambda: False, limit=12)
    assert np.median(newer) <= 1  # a busy machine may stop this thread while frames come
    assert all(result.age_ms / 1e3 >= inference_s for result, inference_s in zip(results, inferences_s, strict=True))
    one = summary.cameras[0]
    assert one.processed == 12
    assert one.dropped > one.processed  # nine of ten, where the machine is free
    assert one.age_p50_ms == pytest.approx(np.median([result.age_ms for result in results]))


def test_slow_outputs_do_not_make_frames_older():
    """A disk that takes 100 ms a frame slows the run down; what is detected is the newest frame all the same."""
    newer = []

    def detect(frame):
        newer.append(source.stats()[0].captured - 1 - frame.index)
        return FrameResult(frame, NOTHING)

    source = cameras([("cam", lambda: running_camera(period_s=0.01))])
    run_frames(source, [detect], [lambda result: time.sleep(0.1)], lambda: False, limit=8)
    assert np.median(newer) <= 1


def test_none_that_opens_is_the_first_ones_error():
    with closing(cameras([("a", fails), ("b", fails)])) as source, pytest.raises(SourceError, match="cam 9 cannot"):
        source.wait_until_open()


def test_one_that_opens_is_enough_and_the_other_is_reported_once():
    lines = []
    opened = threading.Event()

    def later():
        if not opened.is_set():
            fails()
        return running_camera()

    recovery = Recovery(timeout_s=1, first_wait_s=0.02)
    with closing(cameras([("a", running_camera), ("b", later)], recovery, lines)) as source:
        source.wait_until_open()
        time.sleep(0.1)
        assert lines == ["b: lost: cam 9 cannot be opened; opening it again"]
        opened.set()
        wait_until(lambda: len(lines) == 2)
        assert lines[1].startswith("b: back after ")


def test_what_no_reopening_can_mend_is_said_as_it_is():
    def no_opencv():
        raise MissingDependency("reading a camera needs cv2")

    with closing(cameras([("a", no_opencv)])) as source, pytest.raises(MissingDependency):
        source.wait_until_open()


def test_an_opening_that_hangs_is_given_up_in_time():
    release = threading.Event()

    def hangs():
        release.wait()
        return running_camera()

    with closing(cameras([("a", hangs)], Recovery(timeout_s=0.2))) as source:
        with pytest.raises(SourceError, match="a does not answer"):
            source.wait_until_open()
        release.set()


def test_two_cameras_of_one_name_are_told_apart(monkeypatch):
    from edgedet.stream import sources

    monkeypatch.setattr(sources, "open_url", lambda url, options: running_camera())
    texts = ["rtsp://a:x@nvr/live", "rtsp://b:y@nvr/live", "door=rtsp://c:z@nvr/live"]
    with closing(open_cameras(texts, lambda: False)) as source:
        assert [one.name for one in source.stats()] == ["rtsp://nvr/live", "rtsp://nvr/live (2)", "door"]


@pytest.mark.parametrize("text", ["clip.mp4", "csi:x", "door=clip.mp4"])
def test_what_is_no_camera_is_refused(text):
    with pytest.raises(Exception, match="is no camera|wants the number") as raised:
        open_cameras([text], lambda: False)
    assert "\n" not in str(raised.value)
