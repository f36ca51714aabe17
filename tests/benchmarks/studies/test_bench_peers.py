"""The comparison with other tools: ratios by hand, the table, a simulated peer that fails. No other tool is here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from media import META, write_fake_model

cv2 = pytest.importorskip("cv2", reason="the detector resizes pictures by OpenCV")
pytest.importorskip("tqdm", reason="needs the bench extra")

from edgedet.anchors import anchors_for
from edgedet.benchmarks.latency.measure import Latency
from edgedet.benchmarks.studies.int8.ap_spread import match_under_changes
from edgedet.benchmarks.studies.peers import __main__ as peers
from edgedet.benchmarks.studies.peers import engines
from edgedet.benchmarks.studies.peers.engines import LevelsEngine, PeerDetector, normalised, open_peer
from edgedet.detector import Detector
from edgedet.errors import InputError
from edgedet.judge.labels import Dataset, LabelledImage
from edgedet.types import Frame

STAGES = ("preprocess", "network", "postprocess", "end to end", "cpu")


def latency(*end_to_end_ms: float) -> Latency:
    """Return runs whose network takes half of the time, and whose CPU twice of it."""
    return Latency(
        {stage: [{"network": 0.5, "cpu": 2.0}.get(stage, 1.0) * value for value in end_to_end_ms] for stage in STAGES}
    )


def open_simulated(model: str, threads: int, score: float) -> Detector:
    """Open the fake model of "KIND|FILE|OURS", or be a peer that does not load."""
    kind, path, _ = model.split("|")
    if kind == "broken":
        raise InputError("this peer does not load")
    return Detector(path, threads, score)


def test_a_ratio_is_the_median_of_those_of_each_round(tmp_path: Path) -> None:
    """10, 20 and 30 ms of the plain file to 5, 20 and 10: twice, once and three times as fast, in the middle twice."""
    path = write_fake_model(tmp_path / "a.fake")
    entry = peers._entry("a", f"kind|{path}|ours", latency(5, 20, 10), latency(10, 20, 30))
    assert (entry["speed_network"], entry["speed_end_to_end"], entry["speed_cpu"]) == (2.0, 2.0, 2.0)
    assert (entry["n"], entry["bytes"]) == (3, path.stat().st_size)
    assert entry["runs_ms"] == {"network": [2.5, 10, 5], "end to end": [5, 20, 10]}


def test_without_the_plain_file_there_is_no_ratio(tmp_path: Path) -> None:
    entry = peers._entry("a", str(write_fake_model(tmp_path / "a.fake")), latency(5), None)
    assert (entry["speed_network"], entry["speed_end_to_end"], entry["speed_cpu"]) == (None, None, None)


def test_the_table_has_the_fastest_last_and_names_what_failed(tmp_path: Path) -> None:
    path = str(write_fake_model(tmp_path / "a.fake"))
    rows = [
        {**peers._entry(name, path, latency(ms), latency(12)), "peak_rss_mb": 100.0, "ap": ap}
        for name, ms, ap in (("quick", 6.0, 0.5), ("slow", 24.0, None))
    ]
    _, *lines = peers.table({"rows": rows, "failures": {"lost": "no such package"}}).splitlines()
    assert [line.split() for line in lines] == [
        ["slow", "12.0", "0.50", "24.0", "0.50", "48.0", "0.50", "100", "-"],
        ["quick", "3.0", "2.00", "6.0", "2.00", "12.0", "2.00", "100", "0.5000"],
        ["failed:", "lost:", "no", "such", "package"],
    ]


def test_a_simulated_peer_that_fails_is_named_and_the_rest_is_measured(tmp_path: Path, monkeypatch, capsys) -> None:
    path = write_fake_model(tmp_path / "a.fake")
    found = {
        "edgedet a": (str(path), Detector),
        peers.PLAIN: (f"whole|{path}|{path}", open_simulated),
        "broken peer": (f"broken|{path}|{path}", open_simulated),
    }
    monkeypatch.setattr(peers, "peers", lambda args: found)
    words = ["--weights", "w.pth", "--ours", str(path), "--calib", ".", "--rounds", "3", "--warmup", "1"]
    assert peers.main([*words, "--json", str(tmp_path / "peers.json")]) == 1
    assert "failed: broken peer: this peer does not load" in capsys.readouterr().out
    result = json.loads((tmp_path / "peers.json").read_text())
    assert [(row["name"], row["n"]) for row in result["rows"]] == [("edgedet a", 3), (peers.PLAIN, 3)]
    assert result["failures"] == {"broken peer": "this peer does not load"}
    assert result["rows"][1]["speed_network"] == 1.0


def test_files_are_named_with_how_they_are_opened(tmp_path: Path, monkeypatch) -> None:
    """What exists in the working folder is not made again."""
    monkeypatch.chdir(tmp_path)
    ours, work = write_fake_model(Path("a.fake")), Path("work")
    work.mkdir()
    for name in ("my_plain.onnx", "my_nncf.xml"):
        (work / name).touch()
    args = argparse.Namespace(weights=Path("my.pth"), ours=[ours], litert=[Path("l.tflite")], work=work, calib=".")
    found = peers.peers(args)
    assert found["edgedet a.fake"] == ("a.fake", Detector)
    assert found[peers.PLAIN] == ("onnxruntime|work/my_plain.onnx|a.fake", open_peer)
    assert found["NNCF INT8, OpenVINO"][0] == "openvino|work/my_nncf.xml|a.fake"
    assert found["litert-torch l.tflite"][0] == "litert|l.tflite|a.fake"


def test_an_unknown_kind_of_peer_is_refused(tmp_path: Path) -> None:
    path = write_fake_model(tmp_path / "a.fake")
    with pytest.raises(InputError, match="unknown peer magic: wanted litert, eager, compile, onnxruntime, openvino"):
        open_peer(f"magic|x|{path}", 1, 0.4)


def test_a_peers_ap_is_taken_under_the_same_changes(tmp_path: Path, monkeypatch) -> None:
    """A simulated peer, sure of its first anchor, whose box is the label of the one picture: AP 1 each time."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((128, 128, 3), 100, np.uint8))
    names = META.class_names
    y1, x1, y2, x2 = np.clip(anchors_for(META.spec)[0], 0, 128)
    label = LabelledImage(
        tmp_path / "a.png", None, np.array([[x1, y1, x2, y2]]), np.zeros(1, np.int64), np.ones(1), np.zeros(1, bool)
    )
    seen = []

    def levels(image: np.ndarray) -> list[np.ndarray]:
        seen.append(image.copy())
        made = [np.full((1, 9 * len(names), side, side), -9.0, np.float32) for side in (16, 8, 4, 2, 1)]
        made[0][0, 0, 0, 0] = 4.0
        return [*made, *(np.zeros((1, 36, side, side), np.float32) for side in (16, 8, 4, 2, 1))]

    monkeypatch.setitem(engines._RUNS, "simulated", lambda path, meta, threads: levels)
    fake, data = write_fake_model(tmp_path / "a.fake"), Dataset((label,), names)
    judged = match_under_changes(fake, data, 2, 1, "simulated|peer.file")
    assert [item.compute_ap(np.ones(1)) for item in judged] == pytest.approx([1.0, 1.0])
    assert 0 < (seen[0] != seen[1]).mean() < 0.01
    with pytest.raises(InputError, match="unknown peer magic"):
        match_under_changes(fake, data, 1, 1, "magic|peer.file")


def test_a_peer_sees_the_normalised_picture_and_only_its_network_counts_as_network() -> None:
    """A simulated network of one level that finds nothing; it notes what it was given."""
    seen = []

    def levels(image: np.ndarray) -> list[np.ndarray]:
        seen.append(image.copy())
        shapes = [(9 * width, side) for width in (2, 4) for side in (16, 8, 4, 2, 1)]
        return [np.full((1, channels, side, side), -9.0, np.float32) for channels, side in shapes]

    engine = LevelsEngine(levels, META.spec)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    raw = engine.infer(pixels)
    np.testing.assert_allclose(seen[0], normalised(pixels, META.spec), atol=1e-6)
    assert (raw.class_logits.shape, raw.box_codes.shape) == ((9 * 341, 2), (9 * 341, 4))
    result = PeerDetector((META, engine), 1, 0.4).detect(Frame(pixels[0], 0.0, 0))
    assert len(result.detections) == 0
    assert result.timings_ms["network"] == engine.network_ms
