"""The live page: pictures once a frame and for viewers only, figures, health, metrics, threshold, the end of a run."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from installs import ROOT
from media import META
from waiting import wait_until
from web_page import TOKEN, ask, found, page, read_all, result, send, stats

from edgedet.errors import InputError
from edgedet.files import sha256_of
from edgedet.types import Track
from edgedet.web import answers, pictures, probe, replies
from edgedet.web.defaults import TOKEN_VARIABLE
from edgedet.web.figures import BOUNDS_MS, RECENT, Figures, Histogram, summary_of
from edgedet.web.guard import Guard, Place, names_of
from edgedet.web.pictures import LONGEST_SIDE_PX, jpeg_of
from edgedet.web.server import web_server
from edgedet.web.subject import facts_of, status_of

cv2 = pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


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


# --- pictures


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
        one.put(replace(broken, detections=found(1)))
        assert ask(one.port, "/snapshot.jpg")[0] == 200
        one.subject.figures.note(result())
        with contextlib.suppress(IndexError):
            one.put(broken)
        assert ask(one.port, "/healthz")[0] == 200


# --- figures


def test_times_are_counted_in_their_buckets_and_percentiles_are_of_the_last():
    histogram = Histogram()
    for ms in (0.5, 1.0, 1.5, 60.0, 9999.0):
        histogram.note(ms)
    assert histogram.counts[:2] == [2, 1]  # up to 1 ms, up to 2 ms
    assert histogram.counts[BOUNDS_MS.index(70)] == 1
    assert histogram.counts[-1] == 1
    assert summary_of(histogram.recent_ms)["counts"] == histogram.counts
    assert summary_of(histogram.recent_ms)["p50_ms"] == 1.5
    for _ in range(RECENT):
        histogram.note(4.0)
    counts = summary_of(histogram.recent_ms)["counts"]
    assert counts[BOUNDS_MS.index(5)] == sum(counts) == RECENT
    assert sum(histogram.counts) == RECENT + 5


def test_rates_counts_and_silence_by_a_clock():
    clock = Clock()
    figures = Figures(("person", "car"), clock)
    assert figures.silent_s() == 0
    for _ in range(21):
        figures.note(result(camera="door", class_ids=(0, 0, 1), age_ms=50.0))
        clock.now_s += 0.1
    door = figures.camera("door")
    assert door["fps"] == pytest.approx(20 / 2.1)
    assert (door["now"], door["total"]) == ({"person": 2, "car": 1}, {"person": 42, "car": 21})
    assert door["age"]["p50_ms"] == 50
    clock.now_s += 6.9
    assert figures.silent_s("door") == figures.silent_s() == pytest.approx(7.0)
    assert figures.camera("door")["fps"] == 0
    assert figures.silent_s("yard") == figures.uptime_s() == pytest.approx(9.0)


def test_the_history_is_by_steps_of_two_seconds():
    """A frame at 0.5 s with two persons, one at 1.0 s with none, none from 2 to 4 s, one with a car at 4.1 s."""
    clock = Clock()
    figures = Figures(("person", "car"), clock)
    for at_s, class_ids, age_ms in ((100.5, (0, 0), 40.0), (101.0, (), 60.0), (104.1, (1,), None)):
        clock.now_s = at_s
        figures.note(result(camera="door", class_ids=class_ids, age_ms=age_ms))
    clock.now_s = 105.9
    assert figures.history("door") == {
        "at_s": [2, 4],
        "fps": [1, 0],
        "age_ms": [50, None],
        "longest_ms": [60, None],
        "boxes": {"person": [1, 0]},
    }
    clock.now_s = 106.0  # the third step is complete
    assert figures.history("door", 1) == {
        "at_s": [6],
        "fps": [0.5],
        "age_ms": [None],
        "longest_ms": [None],
        "boxes": {"car": [1]},
    }
    clock.now_s = 100.0 + 700.0  # ten minutes are 300 steps; of the frames, only the last is not forgotten yet
    history = figures.history("door")
    assert len(history["fps"]) == 300
    assert history["at_s"][-1] == 700
    assert sum(history["fps"]) == 0
    assert figures.history("yard")["fps"] == [0.0] * 300


def test_events_carry_the_state_and_the_end():
    cameras = (stats("door"), stats("yard", "lost", "no frame for 10 s"))
    with page(cameras) as one:
        one.put(result(camera="door", class_ids=(0,), age_ms=50.0))
        connection = send(one.port, "GET /events HTTP/1.0", f"Host: 127.0.0.1:{one.port}")
        seen = b""
        while seen.count(b"data: ") < 2:
            seen += connection.recv(65536)
        assert b"Content-Type: text/event-stream" in seen
        state = json.loads(re.search(rb"data: (.*)\n\n", seen)[1])
        door, yard = state["cameras"]
        assert (door["state"], door["now"], door["dropped"]) == ("live", {"person": 1}, 37)
        assert (yard["state"], yard["reason"], yard["frames"]) == ("lost", "no frame for 10 s", 0)
        assert state["stages"]["network"]["p50_ms"] == 40
        assert len(state["bounds_ms"]) + 1 == len(door["age"]["counts"])
        assert state["score"] == 0.4
    assert read_all(connection).endswith(b"event: end\ndata: {}\n\n")


def test_a_file_is_one_camera_without_a_name():
    with page() as one:
        one.put(result(class_ids=(0,)))
        (only,) = status_of(one.subject, 0)["cameras"]
        assert (only["name"], only["title"], only["state"], only["frames"]) == ("", "clip.mp4", "file", 1)


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


def test_the_history_is_given_by_camera():
    with page((stats("door"), stats("yard"))) as one:
        assert ask(one.port, "/history.json?camera=cellar")[0] == 404
        assert json.loads(ask(one.port, "/history.json?camera=yard")[2])["boxes"] == {}


def test_health_fails_without_frames_and_comes_back():
    with page((stats("door"), stats("yard")), unhealthy_s=3.0) as one:
        one.put(result(camera="door"))
        status, _, body = ask(one.port, "/healthz")
        assert (status, json.loads(body)["healthy"]) == (200, True)
        wait_until(lambda: ask(one.port, "/healthz")[0] == 503)
        assert json.loads(ask(one.port, "/healthz")[2])["seconds_without_frame"] > 3.0
        one.put(result(camera="door"))
        assert ask(one.port, "/healthz")[0] == 200
        assert ask(one.port, "/healthz?camera=door")[0] == 200
        assert ask(one.port, "/healthz?camera=yard")[0] == 503
        assert ask(one.port, "/healthz?camera=roof")[0] == 404


def test_health_may_want_every_camera():
    """One of two is dead: fine where any is enough, not where all must deliver; and which one it is, is said."""
    with (
        page((stats("door"), stats("yard")), unhealthy_s=0.5) as of_any,
        page((stats("door"), stats("yard")), unhealthy_s=0.5, healthy_if="all") as of_all,
    ):
        wait_until(lambda: ask(of_all.port, "/healthz")[0] == 503)

        def answers(one):
            one.put(result(camera="door"))
            return ask(one.port, "/healthz")[0]

        wait_until(lambda: answers(of_any) == 200)
        wait_until(lambda: json.loads(ask(of_all.port, "/healthz")[2])["seconds_by_camera"]["yard"] > 0.5)
        assert answers(of_all) == 503
        of_all.put(result(camera="yard"))
        wait_until(lambda: answers(of_all) == 200 or of_all.put(result(camera="yard")))


def test_metrics_are_what_prometheus_reads():
    from prometheus_client.parser import text_string_to_metric_families

    track = Track(1, 1, 0.8, (16.0, 16.0, 96.0, 80.0), True)
    with page((stats("door"), stats('ya"rd', "lost"))) as one:
        for _ in range(3):
            one.put(result(camera="door", class_ids=(0, 1, 1), age_ms=50.0, tracks=(track,)))
        _, head, body = ask(one.port, "/metrics")
        assert "Content-Type: text/plain; version=" in head
        samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }
    assert samples["edgedet_frames_total", "door"] == 3
    assert samples["edgedet_detections_total", "car", "door"] == 6
    assert samples["edgedet_objects_total", "car", "door"] == 1
    assert samples["edgedet_stage_seconds_count", "network"] == 3
    assert samples["edgedet_stage_seconds_sum", "network"] == pytest.approx(0.12)
    assert samples["edgedet_stage_seconds_bucket", "0.05", "network"] == 3
    assert samples["edgedet_stage_seconds_bucket", "0.03", "network"] == 0
    assert samples["edgedet_frame_age_seconds_bucket", "+Inf", "door"] == 3
    assert samples["edgedet_camera_up", "door"] == 1
    assert samples["edgedet_camera_up", 'ya"rd'] == 0
    assert samples["edgedet_camera_frames_total", "door", "dropped"] == 37
    assert samples["edgedet_camera_gap_seconds_total", "door"] == 4.5
    assert samples["edgedet_score_threshold",] == 0.4


def test_facts_hold_the_gates_report_and_only_json():
    gate = {"verdict": "PASSED", "value": 0.99, "low": float("nan"), "boxes": (1, 2)}
    facts = facts_of("m.onnx", replace(META, report={"gate": gate}), threads=2)
    assert facts["report"]["gate"] == {"verdict": "PASSED", "value": 0.99, "low": "nan", "boxes": [1, 2]}
    assert (facts["classes"], facts["input"]) == (["person", "car"], "128 x 128")
    json.dumps(facts, allow_nan=False)


# --- the server


def test_a_port_in_use_is_told_in_one_line():
    with page() as one, pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{one.port}: .* in use"):  # noqa: SIM117
        with web_server(Place("127.0.0.1", one.port), Guard(names_of(Place("x", 1), ()), None), one.subject, print):
            pass


def test_files_of_the_page_name_no_other_site():
    for path in answers.FILES.values():
        addresses = set(re.findall(r"https?://[\w.]+", path.read_text()))
        comment = {"https://github.com"} if path.parent.name == "vendor" else set()
        assert addresses <= {"http://www.w3.org"} | comment, path  # SVG's name space


def test_files_of_others_are_unchanged_and_come_with_their_licence():
    """The SHA-256 of the files in npm's package uplot 1.6.32."""
    folder = answers.FOLDER / "vendor"
    assert {path.name: sha256_of(path)[:16] for path in folder.iterdir() if path.suffix != ".md"} == {
        "uPlot.LICENSE": "8f989229699b4fe2",
        "uPlot.iife.min.js": "19c8d4c6ad88929a",
        "uPlot.min.css": "df630c6a8d6f8eea",
    }
    assert "MIT License" in (folder / "uPlot.LICENSE").read_text()


def test_one_connection_takes_many_requests_and_head_has_no_body():
    with page() as one:
        one.put(result())
        lines = ["GET /healthz HTTP/1.1", f"Host: 127.0.0.1:{one.port}"]
        connection = send(one.port, *lines)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall("\r\n".join([*lines, "Connection: close"]).encode() + b"\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")
        for path in ("/", "/snapshot.jpg", "/events", "/stream.mjpg"):
            status, _, body = ask(one.port, path, method="HEAD")
            assert (status, body.strip("0\r\n")) == (200, ""), path


def test_the_document_names_every_address_and_every_metric():
    text = (ROOT / "docs/web.md").read_text()
    addresses = set(answers.ROUTES) - (set(answers.FILES) - {"/", "/events-page", "/zones-page"})
    assert set(re.findall(r"`(/[\w.-]*)`", "".join(re.findall(r"^\|(.*?)\|", text, re.MULTILINE)))) == addresses
    with page((stats("door"),)) as one:
        one.put(result(camera="door", class_ids=(0,), age_ms=50.0))
        families = re.findall(r"^# TYPE (\w+) ", ask(one.port, "/metrics")[2], re.MULTILINE)
    assert len(families) == 14
    for name in families:
        assert f"`{name}`" in text, name


def test_a_health_check_of_a_container_asks_with_the_token(monkeypatch, capsys):
    with page(token=TOKEN) as one:
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
        assert probe.main([str(one.port)]) == 1  # without the token
        monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        assert probe.main([str(one.port)]) == 0
    with page(token=TOKEN, unhealthy_s=0.05) as one:
        wait_until(lambda: probe.main([str(one.port)]) == 1)
    assert probe.main([str(one.port)]) == 1
    assert "no answer: " in capsys.readouterr().out
