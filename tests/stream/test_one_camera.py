"""One camera or network stream as a source: a slow reader gets the newest frame, each once; a dead one ends it."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from media import picture
from waiting import wait_until

from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource
from edgedet.stream.sources import SourceOptions, open_source

cv2 = pytest.importorskip("cv2", reason="pictures of a stream are encoded by OpenCV")


def live(name, camera, stopped=lambda: False):
    """Return a source of one fake camera that is not opened again."""
    return LiveSource([(name, lambda: camera)], stopped, recovery=Recovery(retries=0))


class FakeCamera:
    """A capture whose n-th frame has level n; ``step`` lets the next ``count`` frames through."""

    def __init__(self, ends_after=None):
        self.ends_after = ends_after
        self.delivered = 0
        self.released = False
        self._permits = threading.Semaphore(0)

    def step(self, count):
        for _ in range(count):
            self._permits.release()

    def read(self, into=None):
        if self.delivered == self.ends_after:
            return False, None
        if not self._permits.acquire(timeout=120):
            return False, None
        self.delivered += 1
        self.read_s = time.monotonic()
        return True, picture(self.delivered, (4, 4))

    def captured_s(self):
        return self.read_s

    def get(self, prop):
        return 30.0

    def release(self):
        self.released = True


def test_a_slow_reader_gets_the_newest_frame():
    """Ten frames come while nobody looks: the reader gets the tenth, and then the eleventh."""
    camera = FakeCamera()
    with closing(live("camera", camera, lambda: False)) as source:
        frames = iter(source)
        camera.step(10)
        wait_until(lambda: source.cameras[0]._newest is not None and source.cameras[0]._newest.index == 9)
        frame = next(frames)
        assert (frame.index, int(frame.bgr[0, 0, 0])) == (9, 10)
        camera.step(1)
        assert next(frames).index == 10
        camera.step(1)  # the thread waits in read; closing wants it to come back


def test_a_frame_is_given_once():
    camera = FakeCamera(ends_after=2)
    source = live("camera", camera, lambda: False)
    camera.step(1)
    frames = iter(source)
    assert next(frames).index == 0
    camera.step(1)
    assert [frame.index for frame in frames] == [1]
    assert source.failures == ["camera stopped delivering: no frame came."]
    assert camera.released
    source.close()


def test_a_live_frame_carries_the_time_of_its_capture():
    camera = FakeCamera(ends_after=1)
    before = time.monotonic()
    camera.step(1)
    source = live("camera", camera, lambda: False)
    (frame,) = source
    assert before <= frame.captured_s <= time.monotonic()
    assert (source.live, source.fps, source.total) == (True, 30.0, None)
    source.close()


def test_waiting_for_a_silent_camera_can_be_stopped():
    camera = FakeCamera()
    stop = threading.Event()
    source = live("camera", camera, stop.is_set)
    threading.Timer(0.2, stop.set).start()
    assert list(source) == []
    assert source.failures == []
    camera.step(1)
    source.close()


def test_a_camera_that_raises_ends_the_source():
    class Broken(FakeCamera):
        def read(self, into=None):
            raise OSError("unplugged")

    source = live("camera 0", Broken(), lambda: False)
    assert list(source) == []
    assert source.failures == ["camera 0 stopped delivering: unplugged."]
    source.close()


def test_closing_releases_the_camera():
    camera = FakeCamera()
    source = live("camera", camera, lambda: False)
    camera.step(3)
    wait_until(lambda: camera.delivered == 3)
    threading.Timer(0.1, camera.step, [1]).start()
    source.close()
    assert camera.released


@pytest.fixture
def mjpeg_url():
    """A camera on the network: 20 Motion JPEG frames over HTTP, level 10 n, one every 20 ms; then it hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for index in range(20):
                jpeg = cv2.imencode(".jpg", picture(10 * index))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(0.02)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_network_stream_is_read_until_it_ends(mjpeg_url):
    source = open_source(mjpeg_url, lambda: False, SourceOptions(recovery=Recovery(retries=0)))
    assert isinstance(source, LiveSource)
    frames = list(source)
    assert 1 <= len(frames) <= 20
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    first = round(frames[0].bgr.mean() / 10) - frames[0].index  # those before it came while the stream was being opened
    expected = [10 * (first + frame.index) for frame in frames]
    np.testing.assert_allclose([frame.bgr.mean() for frame in frames], expected, atol=3)
    assert source.failures == [f"{mjpeg_url} stopped delivering: no frame came."]
    source.close()
