"""The live page's pictures: encoded once a frame and for viewers only, by camera, and never held up by a viewer."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from waiting import wait_until
from web_page import ask, decoded, detected, page, result, send, stats

from edgedet.web import pictures
from edgedet.web.answers import replies
from edgedet.web.pictures import LONGEST_SIDE_PX, jpeg_of

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")


class Viewer:
    """Reads a stream in a thread and keeps its pictures."""

    def __init__(self, port: int, query: str = "") -> None:
        self.pictures: list[bytes] = []
        self._connection = send(port, f"GET /stream.mjpg{query} HTTP/1.0", f"Host: 127.0.0.1:{port}")
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while part := self._connection.recv(65536):
                seen += part
                while (whole := re.search(rb"Content-Length: (\d+)\r\n\r\n", seen)) is not None:
                    end = whole.end() + int(whole[1])
                    if len(seen) < end:
                        break
                    self.pictures.append(seen[whole.end() : end])
                    seen = seen[end:]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._connection.close()


def test_nothing_is_encoded_while_nobody_looks():
    with page() as one:
        for level in range(20):
            one.put(result(level))
        assert ask(one.port, "/healthz")[0] == 200
        assert one.encoded == []


def test_a_snapshot_is_the_newest_frame_with_its_boxes():
    with page() as one:
        one.put(result(20))
        one.put(result(200, class_ids=(0,)))
        status, head, body = ask(one.port, "/snapshot.jpg")
        assert (status, len(one.encoded)) == (200, 1)
        assert "Content-Type: image/jpeg" in head
        bgr = decoded(body.encode("latin-1"))
        assert bgr.shape == (120, 160, 3)
        assert abs(int(bgr[110, 150, 0]) - 200) < 5  # outside of the box, grey
        assert bgr[60, 16, 2] > bgr[60, 16, 1] + 80  # its left side, red: class 0
        ask(one.port, "/snapshot.jpg")
        assert len(one.encoded) == 1  # the same frame is not encoded again


def test_many_viewers_share_one_encoding_a_frame():
    with page() as one:
        viewers = [Viewer(one.port) for _ in range(20)]
        for level in range(10, 60, 10):
            one.put(result(level))
            wait_until(lambda count=level // 10: all(len(viewer.pictures) >= count for viewer in viewers))
        for viewer in viewers:
            viewer.close()
        assert len(one.encoded) == 5
        assert all(viewer.pictures == viewers[0].pictures for viewer in viewers)
        assert [round(float(decoded(jpeg).mean()), -1) for jpeg in viewers[0].pictures] == [10, 20, 30, 40, 50]
        wait_until(lambda: "edgedet_viewers 0.0" in ask(one.port, "/metrics")[2])
        one.put(result(70))
        time.sleep(0.2)
        assert len(one.encoded) == 5  # all have gone


def test_pictures_come_no_faster_than_the_limit(monkeypatch):
    """100 frames a second for 1 s, at most 15 pictures a second: 14 to 17 of them, the first at once."""
    with page() as one:
        viewer = Viewer(one.port)
        wait_until(lambda: "edgedet_viewers 1.0" in ask(one.port, "/metrics")[2])
        began = time.monotonic()
        while time.monotonic() - began < 1.0 or len(one.encoded) < 5:
            one.put(result(90))
            time.sleep(0.01)
        seconds = time.monotonic() - began
        viewer.close()
        assert 5 <= len(one.encoded) <= seconds * pictures.PICTURES_PER_S + 2


def noisy_result():
    """A picture of noise: a few of them fill the system's buffers."""
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    return replace(result(), frame=replace(result().frame, bgr=noise))


def viewer_who_takes_nothing(port: int) -> socket.socket:
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", port))
    stuck.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return stuck


def test_a_viewer_who_takes_nothing_delays_no_one(monkeypatch):
    monkeypatch.setattr(replies, "STUCK_S", 3600.0)
    with page() as one:
        noisy, stuck = noisy_result(), viewer_who_takes_nothing(one.port)
        reader = Viewer(one.port)
        wait_until(lambda: one.put(noisy) or len(reader.pictures) >= 25)  # put or the reader would wait for an hour
        assert "edgedet_viewers 2.0" in ask(one.port, "/metrics")[2]
        reader.close()
        stuck.close()


def test_a_viewer_who_takes_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(replies, "STUCK_S", 0.5)
    with page() as one:
        noisy, stuck = noisy_result(), viewer_who_takes_nothing(one.port)
        reader = Viewer(one.port)
        wait_until(lambda: "edgedet_viewers 2.0" in ask(one.port, "/metrics")[2])
        wait_until(lambda: one.put(noisy) or "edgedet_viewers 1.0" in ask(one.port, "/metrics")[2])
        reader.close()
        stuck.close()


def test_a_large_picture_is_made_smaller_and_its_boxes_with_it():
    big = result(class_ids=(1,))
    big = replace(big, frame=replace(big.frame, bgr=np.full((1440, 2560, 3), 90, np.uint8)))
    big = replace(big, detections=replace(big.detections, boxes_xyxy=np.array([[1000, 600, 1600, 1200]], np.float32)))
    bgr = decoded(jpeg_of(big, ("person", "car")))
    assert bgr.shape == (720, LONGEST_SIDE_PX, 3)
    changed = np.abs(bgr.astype(int) - 90).max(axis=2) > 60
    assert changed[450, 496:505].any()  # 1000 / 2
    assert changed[450, 796:805].any()
    assert not changed[450, 505:795].any()


def test_a_frame_that_cannot_be_drawn_ends_no_server():
    with page() as one:
        broken = result(class_ids=(7,))  # there is no such class
        one.put(replace(broken, detections=detected(1)))
        assert ask(one.port, "/snapshot.jpg")[0] == 200
        one.subject.figures.note(result())
        with contextlib.suppress(IndexError):
            one.put(broken)
        assert ask(one.port, "/healthz")[0] == 200


def test_cameras_are_picked_by_name():
    with page((stats("door"), stats("yard"))) as one:
        one.put(result(40, "door"))
        one.put(result(160, "yard"))
        levels = [
            round(float(decoded(ask(one.port, f"/snapshot.jpg{query}")[2].encode("latin-1")).mean()), -1)
            for query in ("", "?camera=door", "?camera=yard")
        ]
        assert levels == [40, 40, 160]


def test_small_pictures_of_all_cameras_come_in_one_stream():
    """1280 x 720 becomes 480 x 270; each part says whose it is, and a camera without a picture delays no other."""
    wide = result(40, "door")
    wide = replace(wide, frame=replace(wide.frame, bgr=np.full((720, 1280, 3), 40, np.uint8)))
    with page((stats("door"), stats("yard"), stats("dead", captured=0))) as one:
        connection = send(one.port, "GET /grid.mjpg HTTP/1.0", f"Host: 127.0.0.1:{one.port}")
        seen: dict[int, np.ndarray] = {}
        text = b""
        one.put(wide)
        one.put(result(160, "yard"))
        while len(seen) < 2:
            text += connection.recv(65536)
            for part in text.split(b"--frame\r\n")[1:]:
                head, _, jpeg = part.partition(b"\r\n\r\n")
                if len(jpeg) >= int(re.search(rb"Content-Length: (\d+)", head)[1]):
                    seen[int(re.search(rb"Camera: (\d)", head)[1])] = decoded(jpeg)
        connection.close()
        assert seen[0].shape == (270, 480, 3)
        assert seen[1].shape == (120, 160, 3)
        assert [round(float(seen[camera].mean()), -1) for camera in (0, 1)] == [40, 160]
