"""Calibration frames of videos, of cameras, and where no source was named."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from calibration_scenes import SPEC, everything, hashes, scene, write_images
from media import write_clip

from edgedet.calibration.ranges import frame_picker
from edgedet.calibration.ranges import frames as frames_module
from edgedet.calibration.ranges.frames import PHOTOGRAPHS, take_calibration_frames
from edgedet.errors import InputError
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource

cv2 = pytest.importorskip("cv2", reason="frames are read by OpenCV")
pytest.importorskip("tqdm", reason="the progress bar is tqdm's")


def write_scenes(path, count):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (160, 120))
    for number in range(count):
        writer.write(scene(number))
    writer.release()
    return str(path)


def test_a_video_is_covered_evenly(tmp_path):
    sets = take_calibration_frames(write_scenes(tmp_path / "a.avi", 36), SPEC, count=9)  # so few: no more for the gate
    bright = sorted(
        int(frame.pixels[0, :96].mean(-1).argmax())
        for part in (sets.calibrate, sets.select, sets.gate)
        for frame in part
    )
    squares = sorted((at // 128 // 16) * 8 + at % 128 // 16 for at in bright)  # 16 pixels of the input a square
    assert [square // 4 for square in squares] == list(range(9))  # one in each stretch of four frames


def test_a_video_of_unknown_length_is_counted_first(tmp_path, monkeypatch):
    path = write_scenes(tmp_path / "a.avi", 40)
    whole = take_calibration_frames(path, SPEC, count=10)
    opened = frames_module.open_source

    def without_total(text, stopped):
        source = opened(text, stopped)
        source.total = None
        return source

    for module in (frames_module, frame_picker):
        monkeypatch.setattr(module, "open_source", without_total)
    assert hashes(take_calibration_frames(path, SPEC, count=10)) == hashes(whole)


def test_a_video_of_even_grey_is_refused(tmp_path):
    with pytest.raises(InputError, match="evenly one colour"):
        take_calibration_frames(str(write_clip(tmp_path / "grey.avi")), SPEC)


class FakeCamera:
    """Delivers a new scene every 5 ms."""

    def __init__(self, frames):
        self.left = list(range(frames))

    def read(self, into=None):
        time.sleep(0.005)
        return (True, scene(self.left.pop(0) % 48)) if self.left else (False, None)

    def captured_s(self):
        return time.monotonic()

    def get(self, prop):
        return 0.0

    def release(self):
        pass


def live(name, camera, stopped):
    """Return a source of one fake camera that is not opened again."""
    return LiveSource([(name, lambda: camera)], stopped, recovery=Recovery(retries=0))


def test_a_camera_is_watched_for_some_seconds(monkeypatch):
    monkeypatch.setattr(
        frames_module, "open_source", lambda text, stopped: live("camera 0", FakeCamera(10_000), stopped)
    )
    sets = take_calibration_frames("0", SPEC, count=8, live_seconds=0.8)
    assert 3 <= len(everything(sets)) <= 8  # a frame each 0.1 s, on a busy machine fewer


def test_a_camera_that_ends_gives_what_came(monkeypatch):
    monkeypatch.setattr(frames_module, "open_source", lambda text, stopped: live("camera 0", FakeCamera(20), stopped))
    sets = take_calibration_frames("0", SPEC, count=1000, live_seconds=10.0)
    assert 2 <= len(everything(sets)) <= 20
    assert sets.failures == ("camera 0 stopped delivering: no frame came.",)


def test_without_a_source_the_demo_takes_its_clip():
    sets = take_calibration_frames(None, SPEC, count=20, is_demo=True)
    assert (len(sets.calibrate), len(sets.select), len(sets.gate)) == (10, 4, 18)
    assert sets.source == "street.mp4"
    assert sets.notes == ()


def test_without_a_source_other_models_take_photographs_and_say_so():
    pytest.importorskip("skimage", reason="the photographs are scikit-image's")
    sets = take_calibration_frames(None, SPEC)
    assert len(everything(sets)) == len(PHOTOGRAPHS)
    assert sets.to_dict()["source"] == "scikit-image's photographs"
    assert any("frames of the scene that the camera will see are better" in note for note in sets.notes)


def test_the_report_tells_no_password_and_no_folder(tmp_path, monkeypatch):
    url = "rtsp://user:secret@10.0.0.5:554/live?token=abc"
    assert take_calibration_frames(write_images(tmp_path / "x", range(3)), SPEC).to_dict()["source"] == "x"
    monkeypatch.setattr(frames_module, "open_source", lambda text, stopped: live(text, FakeCamera(10), lambda: False))
    report = take_calibration_frames(url, SPEC, count=2, live_seconds=0.01).to_dict()
    assert report["source"] == "rtsp://10.0.0.5:554/live"
    assert "secret" not in str(report)


def test_no_frame_wanted_is_refused():
    with pytest.raises(InputError, match="at least one frame; 0"):
        take_calibration_frames(None, SPEC, count=0, is_demo=True)


def test_a_larger_input_gives_larger_pixels():
    sets = take_calibration_frames(None, replace(SPEC, input_hw=(256, 128)), count=3, is_demo=True)
    assert {frame.pixels.shape for frame in sets.calibrate + sets.gate} == {(1, 256, 128, 3)}
