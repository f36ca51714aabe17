"""A real RTSP camera on loopback, over TCP and UDP: it hangs, is killed, and comes back in another size.

GStreamer's RTSP server is needed (Debian: gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly python3-gi); it runs in
a process of its own, by whichever Python has it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cameras import number_of
from leftovers import running_children
from waiting import LAST_RESORT_S, wait_until

from edgedet.errors import SourceError
from edgedet.stream.cameras.capture import CaptureOptions
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.loop import run_frames
from edgedet.stream.sources import SourceOptions, open_cameras, open_source
from edgedet.types import Detections, FrameResult

cv2 = pytest.importorskip("cv2", reason="streams are read by OpenCV")

SERVER = Path(__file__).parents[2] / "support" / "streams" / "rtsp_server.py"
ASK = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "rtph264pay"))
"""
TIMEOUT_S = 1.0
CLOCK_BLOCK = 16  # as in rtsp_server.py
HALF = 1 << 23  # of the numbers that a clock shows


@pytest.fixture(scope="module")
def python_with_gstreamer():
    for python in (sys.executable, shutil.which("python3", path=os.defpath)):
        if python and subprocess.run([python, "-c", ASK], capture_output=True, check=False).returncode == 0:
            return python
    return pytest.skip("no Python here has GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0)")


class RtspServer:
    """The server's process."""

    def __init__(self, python, *options):
        self._python = python
        self._options = options
        self.port = "0"
        self.start(*((640, 360) if options else (320, 240)))

    def start(self, width, height):
        command = [self._python, str(SERVER), self.port, str(width), str(height), *self._options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().strip()

    def resize(self, width, height):
        """Change the size of the running stream."""
        self.process.stdin.write(f"{width} {height}\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")


@pytest.fixture
def server(python_with_gstreamer, quiet):
    running = RtspServer(python_with_gstreamer)
    yield running
    running.kill()


def opened(server, lines, transport="tcp", decoder="software", timeout_s=TIMEOUT_S):
    options = SourceOptions(
        CaptureOptions(timeout_s=timeout_s, transport=transport, decoder=decoder),
        Recovery(timeout_s=timeout_s, first_wait_s=0.1),
    )
    return open_source(f"rtsp://user:s3cret@127.0.0.1:{server.port}/live", lambda: False, options, lines.append)


def udp_sockets():
    """Number of UDP sockets of this process and its children, from Linux's tables."""
    own = set()
    for pid in (os.getpid(), *running_children()):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                own.add(os.readlink(link))
    rows = Path("/proc/self/net/udp").read_text().splitlines()[1:]
    return sum(f"socket:[{row.split()[9]}]" in own for row in rows)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets are counted in /proc")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_transport_is_the_one_that_was_asked_for(server, transport):
    before = udp_sockets()
    with closing(opened(server, [], transport, timeout_s=LAST_RESORT_S)) as source:
        frames = list(islice(source, 10))
        assert (udp_sockets() > before) == (transport == "udp")
        assert {frame.bgr.shape for frame in frames} == {(240, 320, 3)}
        assert source.name == f"rtsp://127.0.0.1:{server.port}/live"


def test_hung_then_killed_then_back_in_another_size(server):
    lines = []
    with closing(opened(server, lines)) as source:
        frames = iter(source)
        next(frames)
        server.process.send_signal(signal.SIGSTOP)
        threading.Timer(2.5, server.process.send_signal, [signal.SIGCONT]).start()
        back = next(frame for frame in frames if frame.gap)
        assert back.gap.seconds > 2
        assert len(lines) == 2
        assert "lost: no frame for 1" in lines[0]
        server.kill()
        threading.Timer(0.5, server.start, (640, 360)).start()
        back = next(frame for frame in frames if frame.gap)
        assert back.bgr.shape == (360, 640, 3)
        assert [("lost" in line, "back" in line) for line in lines] == [(True, False), (False, True)] * 2
    assert "s3cret" not in str(lines)


def test_another_size_in_mid_stream(server):
    """Frames go on, as by MJPEG scaled to the size that the stream began with, and no gap is told."""
    lines = []
    with closing(opened(server, lines)) as source:
        frames = iter(source)
        first = next(frames)
        server.resize(640, 480)
        later = list(islice(frames, 75))  # three seconds, each of which begins with a key frame
        assert {frame.bgr.shape for frame in (first, *later)} == {(240, 320, 3)}
        assert not any(frame.gap for frame in later)
        with closing(opened(server, lines)) as newcomer:  # what the camera sends by now
            assert next(iter(newcomer)).bgr.shape == (480, 640, 3)
        assert lines == []


def test_decoding_by_gstreamer(server):
    """What hardware decoders go through; here GStreamer's own software."""
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has no GStreamer, as pip's has none")
    with closing(opened(server, [], decoder="gstreamer")) as source:
        assert {frame.bgr.shape for frame in islice(source, 10)} == {(240, 320, 3)}


@pytest.mark.parametrize("fps", [5, 25])
def test_the_age_is_that_of_what_the_picture_shows(python_with_gstreamer, quiet, fps):
    """Each picture shows the milliseconds of its capture. FFmpeg holds back one frame: 200 ms at 5 a second."""
    inference_s = 0.02

    def detect(frame):
        time.sleep(inference_s)
        return FrameResult(frame, Detections.empty())

    errors_ms, ages_ms = [], []

    def look(result):
        shown_ms = number_of(result.frame.bgr, CLOCK_BLOCK)
        errors_ms.append((int(result.frame.captured_s * 1000) - shown_ms + HALF) % (2 * HALF) - HALF)
        ages_ms.append(result.age_ms + errors_ms[-1])

    server = RtspServer(python_with_gstreamer, str(fps))
    try:
        source = open_source(f"rtsp://127.0.0.1:{server.port}/clock", lambda: False)
        run_frames(source, [detect], [look], lambda: False, limit=3 * fps)
    finally:
        server.kill()
    # Medians: some frames of a busy machine come late, from whichever side
    assert abs(np.median(errors_ms)) < 0.9 * 1000 / fps, errors_ms  # of a whole frame, which FFmpeg holds back
    assert abs(errors_ms[0]) < 500, "frames that came during the opening are not to be shown as new ones"
    assert np.median(ages_ms) <= (inference_s + 1 / fps + 0.05) * 1000, ages_ms


def test_a_wrong_password_is_told_and_not_tried_again_and_again(python_with_gstreamer, quiet):
    """A camera locks an account that is tried too often: FFmpeg asks twice an opening, and there is one opening."""
    server = RtspServer(python_with_gstreamer, "25", "user:right")
    lines = []
    try:
        texts = [
            f"wrong=rtsp://user:s3cret@127.0.0.1:{server.port}/live",
            f"rtsp://user:right@127.0.0.1:{server.port}/live",
        ]
        options = SourceOptions(recovery=Recovery(first_wait_s=0.01))
        with closing(open_cameras(texts, lambda: False, options, lines.append)) as source:
            assert {frame.camera for frame in islice(source, 50)} == {f"rtsp://127.0.0.1:{server.port}/live"}
            wait_until(lambda: lines)
    finally:
        server.kill()
    assert lines == [
        f"wrong: lost: rtsp://127.0.0.1:{server.port}/live cannot be opened: it refuses the user or password (401); "
        "trying again every 10 minutes"
    ]


def test_a_stream_that_is_not_there_is_told(server):
    with (
        closing(open_source(f"rtsp://127.0.0.1:{server.port}/nothing", lambda: False)) as source,
        pytest.raises(SourceError, match=r"the host has no such stream \(404\): is the path right\?$"),
    ):
        list(source)
