"""Cameras on the board itself: what is asked of the drivers, and what is said where they answer otherwise.

There is no such camera on the machines that run tests: OpenCV's captures and picamera2 are replaced by fakes here.
"""

from __future__ import annotations

import sys
import time
import types

import numpy as np
import pytest

from edgedet.errors import MissingDependency, SourceError, UnsupportedError
from edgedet.stream.cameras import devices
from edgedet.stream.cameras.capture import CaptureOptions
from edgedet.stream.cameras.devices import find_stable_path, negotiate, open_csi, open_v4l2

cv2 = pytest.importorskip("cv2", reason="properties are named by OpenCV")
MJPG, YUYV = (cv2.VideoWriter_fourcc(*name) for name in ("MJPG", "YUYV"))


class FakeV4l2:
    """A camera that has MJPG up to 1280x720 at 30, and YUYV of that size at 10 only, as USB 2 gives."""

    def __init__(self, has_mjpg=True):
        self.has_mjpg = has_mjpg
        self.asked = []
        self.values = {
            cv2.CAP_PROP_FOURCC: YUYV,
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
            cv2.CAP_PROP_FPS: 30.0,
        }

    def set(self, prop, value):
        self.asked.append(prop)
        if prop == cv2.CAP_PROP_FOURCC and value == MJPG and not self.has_mjpg:
            return False
        if prop == cv2.CAP_PROP_FRAME_WIDTH:
            value = min(value, 1280)
        if prop == cv2.CAP_PROP_FRAME_HEIGHT:
            value = min(value, 720)
        self.values[prop] = value
        large = self.values[cv2.CAP_PROP_FRAME_WIDTH] > 640
        if self.values[cv2.CAP_PROP_FOURCC] == YUYV and large:
            self.values[cv2.CAP_PROP_FPS] = 10.0
        return True

    def get(self, prop):
        return float(self.values[prop])


def test_nothing_is_asked_for_by_default_but_a_short_queue():
    camera = FakeV4l2()
    assert negotiate(camera, CaptureOptions()) == ""
    assert camera.asked == [cv2.CAP_PROP_BUFFERSIZE]


def test_a_size_is_asked_for_in_motion_jpeg_and_the_format_comes_first():
    camera = FakeV4l2()
    assert negotiate(camera, CaptureOptions(size_wh=(1280, 720), fps=30.0)) == ""
    assert camera.asked[1:] == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]
    assert camera.values[cv2.CAP_PROP_FOURCC] == MJPG


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (CaptureOptions(size_wh=(1920, 1080)), "1280x720, not 1920x1080"),
        (CaptureOptions(size_wh=(1280, 720), fps=30.0, pixel_format="YUYV"), "10 frames a second, not 30"),
        (CaptureOptions(size_wh=(1280, 720), fps=10.3, pixel_format="YUYV"), ""),
        (CaptureOptions(pixel_format="NV12"), ""),
    ],
)
def test_what_the_camera_gives_instead_is_named(options, complaint):
    assert negotiate(FakeV4l2(), options) == complaint


def test_a_camera_without_motion_jpeg_keeps_its_own_format_unless_it_was_asked_for():
    assert negotiate(FakeV4l2(has_mjpg=False), CaptureOptions(size_wh=(640, 480))) == ""
    asked = CaptureOptions(size_wh=(640, 480), pixel_format="MJPG")
    assert negotiate(FakeV4l2(has_mjpg=False), asked) == "YUYV, not MJPG"


# --- CSI --------------------------------------------------------------------------------------------------------


@pytest.fixture
def board(tmp_path, monkeypatch):
    """Say what board this is."""

    def become(model):
        (tmp_path / "model").write_bytes(model.encode() + b"\0")
        monkeypatch.setattr(devices, "MODEL_FILE", tmp_path / "model")

    return become


def test_a_jetsons_camera_is_a_gstreamer_pipeline(board, monkeypatch):
    opened = []
    monkeypatch.setattr(devices, "open_pipeline", lambda pipeline, name: opened.append((pipeline, name)))
    board("NVIDIA Jetson Orin Nano Developer Kit")
    open_csi(1, CaptureOptions(size_wh=(1920, 1080), fps=60.0))
    assert opened == [
        (
            "nvarguscamerasrc sensor-id=1 ! "
            "video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1,format=NV12 ! "
            "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
            "appsink drop=true max-buffers=1 sync=false",
            "camera csi:1",
        )
    ]


@pytest.fixture
def picamera2(monkeypatch):
    """A fake of the package; its cameras deliver blue pictures in the memory order of "RGB888"."""
    log = []

    class Request:
        def make_array(self, stream):
            assert stream == "main"
            return np.full((480, 640, 3), (255, 0, 0), np.uint8)

        def get_metadata(self):
            return {"SensorTimestamp": int((time.monotonic() - 0.03) * 1e9)}

        def release(self):
            log.append("released")

    class Picamera2:
        def __init__(self, number):
            if number > 0:
                raise IndexError("list index out of range")
            log.append("open")

        def create_video_configuration(self, main, controls):
            log.append((main, controls))
            return "configuration"

        def configure(self, configuration):
            assert configuration == "configuration"

        def start(self):
            log.append("start")

        def capture_request(self):
            return Request()

        def capture_metadata(self):
            log.append("metadata")
            return {}  # as of a camera whose driver has no times

        def stop(self):
            log.append("stop")

        def close(self):
            log.append("close")

    module = types.ModuleType("picamera2")
    module.Picamera2 = Picamera2
    monkeypatch.setitem(sys.modules, "picamera2", module)
    return log


def test_a_raspberry_pis_camera_goes_by_picamera2(board, picamera2):
    """Its "RGB888" is B, G, R in memory, so the picture is taken as it is: blue stays blue."""
    board("Raspberry Pi 5 Model B Rev 1.0")
    camera = open_csi(0, CaptureOptions(size_wh=(640, 480), fps=15.0))
    assert picamera2 == ["open", ({"size": (640, 480), "format": "RGB888"}, {"FrameRate": 15.0}), "start"]
    ok, bgr = camera.read()
    assert ok
    assert bgr[0, 0].tolist() == [255, 0, 0]
    assert 0.03 <= time.monotonic() - camera.captured_s() < 1  # since the sensor began, not since the read returned
    before_s = time.monotonic()
    assert camera.grab()
    assert camera.captured_s() >= before_s
    assert camera.get(cv2.CAP_PROP_FPS) == 15.0
    camera.release()
    assert picamera2[3:] == ["released", "metadata", "stop", "close"]


def test_a_connector_without_a_camera(board, picamera2):
    board("Raspberry Pi 4 Model B")
    with pytest.raises(SourceError, match="camera csi:1 cannot be opened: list index out of range"):
        open_csi(1)


def test_a_camera_that_does_not_start_is_let_go_of(board, picamera2, monkeypatch):
    def fails(self):
        raise RuntimeError("Failed to start camera")

    monkeypatch.setattr(sys.modules["picamera2"].Picamera2, "start", fails)
    board("Raspberry Pi 4 Model B")
    with pytest.raises(SourceError, match="csi:0 cannot be started: Failed to start camera"):
        open_csi(0)
    assert picamera2[-1] == "close"


def test_without_picamera2_one_line_says_so(board, monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    board("Raspberry Pi 4 Model B")
    with pytest.raises(MissingDependency, match="camera csi:0 needs picamera2"):
        open_csi(0)


def test_a_pc_has_no_such_connector(board):
    board("")
    with pytest.raises(UnsupportedError, match="connector of a Jetson or a Raspberry Pi; this is neither"):
        open_csi(0)


def test_a_camera_that_comes_back_under_another_number_is_found_by_its_socket(tmp_path):
    """Unplugged for a moment, /dev/video0 is still held, and the camera returns as /dev/video1."""
    by_path = tmp_path / "by-path"
    by_path.mkdir()
    link = by_path / "platform-usb-0:1:1.0-video-index0"
    for name in ("video0", "video1", "video10"):
        (tmp_path / name).touch()
    link.symlink_to("../video0")
    assert find_stable_path(0, by_path) == str(link)
    assert find_stable_path(1, by_path) == 1
    assert find_stable_path(0, tmp_path / "nothing") == 0
    link.unlink()
    link.symlink_to("../video1")
    assert find_stable_path(1, by_path) == str(link)


def test_errors_name_the_camera_as_the_user_does_and_not_its_socket(tmp_path):
    with pytest.raises(SourceError, match=r"^camera 0 cannot be opened: is it connected"):
        open_v4l2(str(tmp_path / "platform-usb-0:1:1.0-video-index0"), name="camera 0")
