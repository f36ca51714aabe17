"""A camera in a process of its own: pictures without a copy, and a process that hangs or crashes harms nobody."""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import closing, contextmanager
from functools import partial

import fake_captures
import numpy as np
import pytest
from waiting import wait_until

from edgedet.errors import SourceError
from edgedet.stream.cameras import isolated as isolated_module
from edgedet.stream.cameras.isolated import CAN_ISOLATE, IsolatedCamera
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource

pytest.importorskip("cv2", reason="the capture process imports OpenCV before it opens a camera")
pytestmark = pytest.mark.skipif(not CAN_ISOLATE, reason="Windows hands no file descriptor to a child")

PATIENT_S = 60.0  # a busy machine must not look like a camera that hangs


@contextmanager
def isolated(open_capture, timeout_s=PATIENT_S):
    camera = IsolatedCamera(open_capture, timeout_s)
    try:
        yield camera
    finally:
        camera.close()


def level(bgr):
    assert (bgr == bgr.flat[0]).all()
    return int(bgr.flat[0])


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("open_capture", [fake_captures.Counting, fake_captures.with_memory_of_its_own])
def test_pictures_stay_as_they_are_while_somebody_looks_at_them(open_capture):
    with isolated(open_capture) as camera:
        capture = camera()
        before_s = time.monotonic()
        pictures = [capture.read()[1] for _ in range(5)]
        assert [level(bgr) for bgr in pictures] == [0, 1, 2, 3, 4]
        assert before_s <= capture.captured_s() <= time.monotonic()
        assert capture.get(5) == 50.0


def test_memory_is_used_again_when_nobody_looks_at_a_picture_any_more():
    with isolated(fake_captures.Counting) as camera:
        capture = camera()
        held = capture.read()[1][2:5]  # a part of a picture holds all of it
        addresses = set()
        for _ in range(20):
            bgr = capture.read()[1]
            addresses.add(bgr.ctypes.data)
            del bgr
            gc.collect()
        assert len(addresses) <= 2
        assert level(held) == 0


def test_a_picture_of_another_size_has_memory_of_its_own():
    with isolated(fake_captures.growing) as camera:
        capture = camera()
        pictures = [capture.read()[1] for _ in range(5)]
        assert [bgr.shape[:2] for bgr in pictures] == [fake_captures.SIZE_HW] * 2 + [(48, 64)] * 3
        assert [level(bgr) for bgr in pictures] == [0, 1, 2, 3, 4]


def test_a_picture_outlives_the_camera():
    with isolated(fake_captures.Counting) as camera:
        bgr = camera().read()[1]
    assert level(bgr) == 0


def test_why_a_camera_cannot_be_opened_is_told_and_the_process_is_kept():
    with isolated(fake_captures.refusing) as camera:
        for _ in range(2):
            with pytest.raises(SourceError, match="it refuses the connection"):
                camera()
        pid = camera._child._process.pid
        assert exists(pid)
    assert not exists(pid)


def test_a_full_disk_does_not_keep_a_camera_from_opening(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with isolated(fake_captures.Counting) as camera:
        assert level(camera().read()[1]) == 0


@pytest.mark.parametrize("open_capture", [fake_captures.Hanging, fake_captures.hanging_opening])
def test_a_process_that_hangs_is_killed(open_capture, monkeypatch):
    monkeypatch.setattr(isolated_module, "_ANALYSIS_S", 0.2)
    with isolated(open_capture, timeout_s=0.3) as camera:
        camera.prepare()
        pid = camera._child._process.pid
        with pytest.raises(SourceError, match=r"no answer for 0\.\d+ s; its capture process was ended"):
            _third(camera)
        assert not exists(pid)


def _third(camera):
    capture = camera()
    for _ in range(3):
        capture.read()


def test_a_crash_is_told_and_the_next_opening_has_a_new_process(tmp_path):
    with isolated(partial(fake_captures.crashing_once, tmp_path / "crashed")) as camera:
        with pytest.raises(SourceError, match="its capture process ended: its process ended by SIGSEGV"):
            _third(camera)
        assert level(camera().read()[1]) == 0


def test_closing_does_not_wait_for_a_driver_that_hangs():
    lines = []
    source = LiveSource(
        [("cam", IsolatedCamera(fake_captures.Hanging, PATIENT_S))],
        lambda: False,
        lines.append,
        recovery=Recovery(PATIENT_S),
    )
    with closing(source):
        frames = iter(source)
        wait_until(lambda: source.stats()[0].captured == 2)
        next(frames)
        pid = source.cameras[0]._opener._child._process.pid
    assert not exists(pid)
    assert not [thread for thread in threading.enumerate() if thread.name == "capture of cam"]
    assert np.isfinite(source.stats()[0].gap_s)
