"""The live page's figures: rates, times and history by a clock, events, health and metrics."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from media import META
from waiting import wait_until
from web_page import ask, page, read_all, result, send, stats

from edgedet.types import Track
from edgedet.web.figures import BOUNDS_MS, RECENT, Figures, Histogram, summary_of
from edgedet.web.subject import facts_of, status_of

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


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
