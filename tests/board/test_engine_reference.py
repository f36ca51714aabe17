"""What engines are judged by in `edgedet build`: frames, boxes enough, and the verdict; TensorRT is SIMULATED."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from trt_models import SPEC, left

from edgedet import demo
from edgedet.board import engine_reference
from edgedet.board.engine_reference import Reference
from edgedet.cli import main
from edgedet.engines.base import open_engine
from edgedet.engines.onnx_file import read_onnx
from edgedet.judge.gate.verdict import MIN_KEPT
from edgedet.types import RawOutputs


def figures(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_too_few_boxes_are_told_before_anything_is_built(int8: Path, capsys, monkeypatch):
    """At score 0.999 the tiny network finds nothing."""
    monkeypatch.setattr(engine_reference, "MOST_FRAMES", 20)
    command = ["build", str(int8), "--no-tune", "--score", "0.999"]
    assert main(command) == 3
    said = capsys.readouterr().err
    assert (
        "tiny.onnx detects 0 objects at score 0.999 on 20 frames, and 50 are needed. Give frames of the scene" in said
    )
    assert "building" not in said
    assert left(int8) == []
    assert main([*command, "--force", "--json"]) == 0
    (trial,) = figures(capsys)["trials"]
    assert (trial["verdict"], trial["kept"]) == ("UNSURE", True)
    assert left(int8) == ["tiny_int8.engine"]


def test_frames_are_taken_until_there_are_boxes_enough(int8: Path, monkeypatch):
    onnx_file = read_onnx(int8)
    assert len(engine_reference.reference_of(onnx_file, None, 0.4, False).frames) == 16
    monkeypatch.setattr(engine_reference, "ENOUGH_BOXES", 300)
    reference = engine_reference.reference_of(onnx_file, None, 0.4, False)
    boxes = [int((found.scores >= 0.4).sum()) for found in reference.model.detections(len(reference.frames))]
    assert sum(boxes[:-1]) < 300 <= sum(boxes)


def test_boxes_that_moved_are_refused_though_found(int8: Path):
    onnx_file = read_onnx(int8)
    reference = engine_reference.reference_of(onnx_file, None, 0.4, False)
    _, engine = open_engine(onnx_file.path, 1)

    def moved(pixels: np.ndarray) -> RawOutputs:
        raw = engine.infer(pixels)
        codes = raw.box_codes.copy()
        codes[:, :2] += 0.05 * np.exp(codes[:, 2:])  # a twentieth of each box down and to the right: IoU 0.82
        return RawOutputs(raw.class_logits.copy(), codes)

    with closing(engine):
        sound = reference.judge(engine)
        trial = reference.judge(SimpleNamespace(infer=moved))
    assert (sound.verdict, trial.verdict) == ("PASSED", "FAILED")
    assert trial.f1 >= 0.95
    assert trial.kept_ap < sound.kept_ap - 0.1
    assert trial.reason == f"keeps {trial.kept_ap:.3f} of AP, {MIN_KEPT:g} passes"


def test_frames_of_the_scene_are_judged_on(int8: Path, capsys):
    assert main(["build", str(int8), "--no-tune", "--source", str(demo.CLIP), "--json"]) == 0
    assert figures(capsys)["frames"] == 16
    frames = list(engine_reference.frames_of(SPEC, str(demo.CLIP)))
    assert len(frames) == 64
    assert len({frame.pixels.tobytes() for frame in frames}) == 64


def test_without_onnxruntime_an_engine_is_kept_by_force_only(int8: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    reference = Reference("tiny.onnx", [], read_onnx(int8).meta, None)
    assert reference.judge(None).verdict == "UNSURE"
    assert main(["build", str(int8), "--no-tune"]) == 2
    assert "(or --force to keep it unjudged) needs onnxruntime, which is not installed" in capsys.readouterr().err
