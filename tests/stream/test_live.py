"""Cameras as one source: fair, fresh, and some may fail. The drivers are fakes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import islice

import pytest
from fake_driver import FakeDriver, consistent, running_camera
from media import picture
from waiting import wait_until

from edgedet.artifact import ArtifactMeta
from edgedet.detector import Detector
from edgedet.engines.fake import FakeEngine
from edgedet.errors import InputError, MissingDependency, SourceError
from edgedet.specs import SPECS
from edgedet.stream.cameras.address import make_file_stem
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource
from edgedet.stream.loop import Batch, run_frames
from edgedet.stream.sources import open_cameras
from edgedet.types import Detections, FrameResult, RawOutputs

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


class SlowEngine(FakeEngine):
    """A fake GPU: each run takes as long, for one picture or for several."""

    def __init__(self, meta, run_s):
        super().__init__(meta, [(0, 0.9, (10, 10, 60, 60))])
        self.run_s, self.batches = run_s, []

    def infer(self, pixels):
        return self.infer_batch(pixels)[0]

    def infer_batch(self, pixels):
        self.batches.append(len(pixels))
        time.sleep(self.run_s)
        return [RawOutputs(self._logits, self._codes) for _ in pixels]


def run_cameras(max_batch, limit):
    """Four cameras of 200 frames a second on an engine of 20 runs a second; return its batches, and the results."""
    spec = replace(SPECS["tf_efficientdet_d0"], input_hw=(128, 128), num_classes=1)
    meta = ArtifactMeta(spec, ("cat",), "fp32", "0" * 64, max_batch=max_batch)
    engine, results = SlowEngine(meta, 0.05), []
    openers = [(name, lambda: running_camera(period_s=0.005)) for name in "abcd"]
    source = cameras(openers)
    wait_until(lambda: all(one.captured for one in source.stats()))
    with Detector((meta, engine)) as detector:
        batch = Batch(detector.detect_batch, max_batch) if max_batch > 1 else None
        summary = run_frames(source, [detector.detect], [results.append], lambda: False, limit, batch=batch)
    assert all(consistent(one) for one in summary.cameras)
    return engine.batches, results


def median_interval_s(frames):
    """Seconds between frames of camera a that were looked at."""
    return np.median(np.diff([frame.captured_s for frame in frames if frame.camera == "a"]))


def test_several_cameras_go_through_the_network_at_once():
    """Most runs take a frame of each camera, so that fewer runs do and each camera is looked at more often."""
    (singles, alone), (batches, together) = run_cameras(1, 24), run_cameras(4, 24)
    assert singles[:24] == [1] * 24
    assert max(batches) == 4
    assert len(batches) <= 18  # a camera may just have no frame; the last runs are not read
    for results in (alone, together):
        assert all(len(result.detections) == 1 for result in results)
    seen = Counter(result.frame.camera for result in together)
    assert set(seen) == set("abcd")
    assert min(seen.values()) >= 3
    intervals_s = [median_interval_s([result.frame for result in results]) for results in (alone, together)]
    assert intervals_s[1] < intervals_s[0]


def test_a_batch_waits_for_no_camera():
    """One camera delivers, the other is silent: its frames go alone."""
    openers = [("a", lambda: running_camera(period_s=0.005)), ("b", lambda: FakeDriver([picture(1)]))]
    with closing(cameras(openers, Recovery(timeout_s=5.0, retries=0))) as source:
        groups = list(islice(source.groups(4), 12))
    assert sum(frame.camera == "b" for group in groups for frame in group) == 1
    assert all(len({frame.camera for frame in group}) == len(group) for group in groups)


def test_groups_smaller_than_the_cameras_take_turns():
    openers = [(name, lambda: running_camera(period_s=0.002)) for name in "abc"]
    with closing(cameras(openers)) as source:
        wait_until(lambda: all(one.captured for one in source.stats()))
        seen = Counter()
        for group in islice(source.groups(2), 9):
            seen.update(frame.camera for frame in group)
            time.sleep(0.03)
    assert seen == {"a": 6, "b": 6, "c": 6}


def test_group_ends_with_the_frame_that_fills_it():
    openers = [(name, lambda: running_camera(period_s=0.002)) for name in "abcd"]
    seen = []

    def full(frame):
        seen.append(frame.camera)
        return len(seen) % 2 == 0

    with closing(cameras(openers)) as source:
        wait_until(lambda: all(one.captured for one in source.stats()))
        groups = []
        for group in islice(source.groups(4, full), 6):
            groups.append([frame.camera for frame in group])
            time.sleep(0.03)
    assert groups == [["a", "b"], ["c", "d"]] * 3


def test_cameras_have_files_of_different_names(monkeypatch):
    """Names of cameras become parts of files' names, where some letters become dashes."""
    from edgedet.stream import sources

    monkeypatch.setattr(sources, "open_url", lambda url, options: running_camera())
    texts = ["rtsp://nvr/a b", "rtsp://nvr/a-b", "rtsp://nvr/a b"]
    with closing(open_cameras(texts, lambda: False)) as source:
        stems = [make_file_stem(one.name) for one in source.stats()]
        assert [one.name for one in source.stats()][1] == "rtsp://nvr/a-b (2)"
    assert len(set(stems)) == 3
    with pytest.raises(InputError, match="the files of cameras door and door- would have the same names"):
        open_cameras(["door=0", "door-=1"], lambda: True)
