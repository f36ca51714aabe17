"""A Motion JPEG camera on loopback that is killed, freezes, changes its size, sends garbage: detections go on."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import islice

import pytest
from cameras import SIZE_WH, mjpeg_camera, number_of
from fake_driver import consistent
from waiting import wait_until

from edgedet.errors import SourceError
from edgedet.stream.cameras.capture import CaptureOptions, open_url
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.sources import SourceOptions, open_source

np = pytest.importorskip("numpy")
pytest.importorskip("cv2", reason="streams are read by OpenCV")

TIMEOUT_S = 0.5


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """FFmpeg writes of each refused connection."""
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "")
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS")  # as it is now, afterwards


def opened(url, lines=None, **recovery):
    options = SourceOptions(
        CaptureOptions(timeout_s=TIMEOUT_S), Recovery(timeout_s=TIMEOUT_S, first_wait_s=0.05, **recovery)
    )
    return open_source(url, lambda: False, options, (lambda line: None) if lines is None else lines.append)


def until_gap(frames):
    return next(frame for frame in frames if frame.gap)


def test_frames_of_a_slow_camera_do_not_grow_older_and_older():
    """Motion JPEG over HTTP has no times; FFmpeg counts 25 frames a second, whatever the camera's rate is."""
    with mjpeg_camera(fps=10.0) as camera, closing(opened(camera.url)) as source:
        captured_s = [frame.captured_s for frame in islice(source, 8)]
    assert captured_s[-1] - captured_s[0] > 0.5  # seven intervals of 0.1 s; of FFmpeg's count 0.28 s


def test_killed_and_started_again():
    lines = []
    with mjpeg_camera() as camera, closing(opened(camera.url, lines)) as source:
        frames = iter(source)
        last = [number_of(next(frames).bgr) for _ in range(5)][-1]
        camera.kill()
        threading.Timer(0.4, camera.start).start()
        back = until_gap(frames)
        assert number_of(back.bgr) > last
        assert back.gap.seconds > 0.3
        numbers = [number_of(next(frames).bgr) for _ in range(5)]
        assert numbers == sorted(set(numbers))
    assert [" lost: " in line or " back after " in line for line in lines] == [True, True]
    assert consistent(source.stats()[0])


def test_frozen_for_longer_than_the_timeout():
    """The connection stays, nothing comes; noticed after the timeout, reported once, and on it goes."""
    lines = []
    with mjpeg_camera() as camera, closing(opened(camera.url, lines)) as source:
        frames = iter(source)
        next(frames)
        camera.frozen.set()
        watcher = threading.Thread(target=lambda: (wait_until(lambda: lines), camera.frozen.clear()))
        watcher.start()
        back = until_gap(frames)
        watcher.join()
        assert back.gap.seconds > TIMEOUT_S
        assert len(lines) == 2


@pytest.mark.slow
def test_frozen_for_ten_seconds_with_the_timeout_that_users_have():
    lines = []
    with mjpeg_camera() as camera, closing(open_source(camera.url, lambda: False, say=lines.append)) as source:
        frames = iter(source)
        next(frames)
        camera.frozen.set()
        watcher = threading.Thread(target=lambda: (wait_until(lambda: lines), camera.frozen.clear()))
        watcher.start()
        back = until_gap(frames)
        watcher.join()
        assert back.gap.seconds > 10
        assert "no frame for 10" in lines[0]
        assert len(lines) == 2


def test_a_loop_of_old_pictures():
    lines = []
    with mjpeg_camera() as camera, closing(opened(camera.url, lines)) as source:
        frames = iter(source)
        next(frames)
        camera.number = lambda n: n % 5
        threading.Timer(3 * TIMEOUT_S, setattr, (camera, "number", lambda n: n)).start()
        assert until_gap(frames).gap.reason == f"the picture stands still or repeats for {TIMEOUT_S:g} s"
        assert "stands still or repeats" in lines[0]


def test_garbage_between_two_pictures():
    with mjpeg_camera() as camera, closing(opened(camera.url)) as source:
        frames = iter(source)
        next(frames)
        for _ in range(3):
            camera.garbage = 20_000
            before = camera.produced
            seen = [number_of(next(frames).bgr) for _ in range(10)]
            wait_until(lambda: number_of(next(frames).bgr) > before + 5)  # noqa: B023
            assert len(seen) == 10


def test_another_size_in_mid_stream():
    """Frames go on; OpenCV scales them to the size that the stream began with."""
    with mjpeg_camera() as camera, closing(opened(camera.url)) as source:
        frames = iter(source)
        next(frames)
        before = next(frames).index
        camera.size_wh = (2 * SIZE_WH[0], 2 * SIZE_WH[1])
        after = [next(frames) for _ in range(10)]
        assert after[-1].index > before
        assert {frame.bgr.shape for frame in after} == {(SIZE_WH[1], SIZE_WH[0], 3)}
        camera.hang_up()  # opened again, they have their own
        assert until_gap(frames).bgr.shape == (2 * SIZE_WH[1], 2 * SIZE_WH[0], 3)


def test_one_frame_a_second_is_no_fault():
    options = SourceOptions(recovery=Recovery(timeout_s=2.0))
    lines = []
    with (
        mjpeg_camera(fps=1) as camera,
        closing(open_source(camera.url, lambda: False, options, lines.append)) as source,
    ):
        numbers = [number_of(frame.bgr) for frame in islice(source, 3)]
        assert numbers == sorted(set(numbers))
        assert lines == []


def test_sixty_a_second_against_a_slow_detector():
    """What is detected is what the camera showed one frame before, however long detection took."""
    with mjpeg_camera(fps=60) as camera, closing(opened(camera.url)) as source:
        behind = []
        for frame in islice(source, 10):
            behind.append(camera.produced - 1 - number_of(frame.bgr))
            time.sleep(10 / 60)
        assert np.median(behind[1:]) <= 2
        assert source.stats()[0].dropped > len(behind)


def test_a_host_that_takes_the_connection_and_says_nothing():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://user:s3cret@127.0.0.1:{listener.getsockname()[1]}/live?pwd=s3cret"
        began = time.monotonic()
        with pytest.raises(SourceError, match="cannot be opened") as raised:
            open_url(url, CaptureOptions(timeout_s=TIMEOUT_S))
        assert time.monotonic() - began < 25  # OpenCV's own limit is 30 s
        assert "s3cret" not in str(raised.value)


def test_a_video_file_on_a_server_is_read_to_its_end(tmp_path):
    """It ends, and is not begun again as a stream would be."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from media import write_clip

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    write_clip(tmp_path / "clip.mp4", frames=7)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with closing(opened(f"http://u:s3cret@127.0.0.1:{server.server_port}/clip.mp4")) as source:
            assert not source.live
            assert len(list(source)) == 7
            assert source.name == f"http://127.0.0.1:{server.server_port}/clip.mp4"
        server.shutdown()
        thread.join()


def test_what_the_user_told_ffmpeg_wins(monkeypatch):
    import os

    variable = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    monkeypatch.setenv(variable, "")
    with mjpeg_camera() as camera:
        told = []
        for users in ("fflags;nobuffer", None):
            monkeypatch.setenv(variable, users) if users else monkeypatch.delenv(variable)
            for transport in ("udp", "tcp"):
                open_url(camera.url, CaptureOptions(transport=transport)).release()
                told.append(os.environ[variable])
    assert told == ["fflags;nobuffer", "fflags;nobuffer", "rtsp_transport;udp", "rtsp_transport;tcp"]
