"""Models are measured in turns on the same frames; times and percentiles are as counted by hand."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from media import picture

from edgedet.benchmarks.latency.device import describe_device, describe_engine
from edgedet.benchmarks.latency.measure import Latency, compute_percentiles, count_rounds, measure, time_run
from edgedet.types import Detections, Frame, FrameResult

FRAMES = [Frame(picture(index), captured_s=0.0, index=index) for index in range(3)]
NOTHING = Detections.empty()


def recorder(log, name, sleep_s=0.0):
    """Return a model to measure that logs (name, frame index)."""

    def detect(frame):
        log.append((name, frame.index))
        time.sleep(sleep_s)
        return FrameResult(frame, NOTHING, {"preprocess": 1.0, "network": 2.0, "postprocess": 3.0})

    return lambda frame: time_run(detect, frame)


def test_models_run_in_turns_on_the_same_frame_and_each_begins_a_round():
    log: list = []
    models = {name: recorder(log, name) for name in "AB"}
    measured = measure(models, FRAMES, warmup=1, counted=iter(range(4)))
    assert log[:2] == [("A", 0), ("B", 0)]  # warm-up
    assert log[2:] == [("A", 0), ("B", 0), ("B", 1), ("A", 1), ("A", 2), ("B", 2), ("B", 0), ("A", 0)]
    assert measured.failures == {}
    assert (measured.rounds, measured.interrupted) == (4, False)
    for latency in measured.latencies.values():
        assert latency.runs == 4
        assert latency.stages_ms["network"] == [2.0] * 4


def test_end_to_end_is_the_time_of_the_whole_call():
    measured = measure({"A": recorder([], "A", sleep_s=0.02)}, FRAMES, warmup=0, counted=iter(range(2)))
    assert all(20 <= value < 2000 for value in measured.latencies["A"].stages_ms["end to end"])
    assert measured.latencies["A"].fps <= 50


def test_cpu_time_is_of_computing_not_of_waiting():
    """Asleep for 50 ms, then busy for 50 ms; the least of five, because threads of OpenBLAS spin after a product."""

    def detect(frame):
        time.sleep(0.05)
        busy_until = time.process_time() + 0.05
        while time.process_time() < busy_until:
            pass
        return FrameResult(frame, NOTHING, {})

    assert 50 <= min(time_run(detect, FRAMES[0])["cpu"] for _ in range(5)) < 80


def test_frames_a_second_are_one_by_the_mean():
    """10, 10 and 40 ms: 20 on average."""
    assert Latency({"end to end": [10.0, 10.0, 40.0]}).fps == pytest.approx(50)


def test_percentiles_lie_between_neighbours():
    """Of 0, 1, ..., 200 each is twice its own number."""
    assert compute_percentiles(range(201)) == {"p50": 100, "p90": 180, "p99": 198}


@pytest.mark.parametrize(
    ("runs", "seconds", "tick_s", "wanted"), [(3, 0.0, 1.0, 3), (1, 5.0, 1.0, 5), (10, 5.0, 100.0, 10)]
)
def test_rounds_go_on_until_both_runs_and_seconds_are_reached(runs, seconds, tick_s, wanted):
    """The clock ticks once a look: first at the start, then after each round that goes beyond ``runs``."""
    looks = iter(range(100))
    assert len(list(count_rounds(runs, seconds, clock=lambda: tick_s * next(looks)))) == wanted


@pytest.mark.parametrize("fails_at", [0, 3], ids=["in warm-up", "later"])
def test_a_model_that_fails_is_dropped_and_the_rest_goes_on(fails_at):
    log: list = []
    calls = iter(range(100))

    def bad(frame):
        if next(calls) == fails_at:
            raise RuntimeError("out of memory\nmore words")
        return recorder([], "bad")(frame)

    measured = measure({"bad": bad, "good": recorder(log, "good")}, FRAMES, 1, iter(range(5)))
    assert measured.failures == {"bad": "out of memory"}
    assert list(measured.latencies) == ["good"]
    assert (len(log), measured.latencies["good"].runs) == (6, 5)


def test_what_was_measured_before_ctrl_c_is_kept():
    """Interrupted in the third round, at the second model: A has 3 runs, B has 2."""
    calls = iter(range(100))

    def interrupted(frame):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return recorder([], "B")(frame)

    measured = measure({"A": recorder([], "A"), "B": interrupted}, FRAMES[:1], 0, iter([0, 2, 4, 6]))
    assert (measured.interrupted, measured.rounds) == (True, 2)
    assert [measured.latencies[name].runs for name in "AB"] == [3, 2]


def test_the_device_is_described():
    found = describe_device()
    assert found.device
    assert found.cores >= 1
    assert found.numpy == np.__version__


@pytest.mark.parametrize(
    ("suffix", "package"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert"), ("tflite", "tflite_runtime")]
)
def test_the_engine_is_named_with_the_version_that_is_loaded(monkeypatch, suffix, package):
    for other in ("onnxruntime", "ai_edge_litert", "tflite_runtime"):
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.setitem(sys.modules, package, SimpleNamespace(__version__="1.2.3"))
    assert describe_engine(Path(f"model.{suffix}")) == f"{package} 1.2.3"


def test_an_engine_without_a_package_is_named_by_its_suffix():
    assert describe_engine(Path("model.fake")) == "fake"
