"""`--int8 --for`: each target holds the INT8 file, too, with the gate's verdict on what it was made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from models import random_network, random_pixels
from tflite_models import graph_of, meta_of, operators_of, plan_for

pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

from edgedet import demo
from edgedet.artifact import META_KEY
from edgedet.cli import main
from edgedet.engines.onnx_file import read_onnx, with_checksum
from edgedet.engines.tflite_file import read_trailer, with_trailer
from edgedet.export.interop import deepstream, frigate, onnx_nms, tflite_app, triton
from edgedet.export.interop.target import Agreement, ModelFiles, Request
from edgedet.export.interop.targets import NAMES
from edgedet.export.tflite.writer import write_tflite
from edgedet.postprocess import DEFAULT_RULES, ORIGINALS, NmsRules
from edgedet.specs import resized, spec_for
from edgedet.types import ModelInput

GATE = {"gate": {"verdict": "PASSED"}}


@pytest.fixture
def with_int8(request_for_files: Request) -> Request:
    """Float files under INT8 names, with a verdict: what a target does with them is the same, and takes less time."""
    files = request_for_files.files
    folder = request_for_files.folder.parent
    meta = replace(read_onnx(files.onnx).meta, precision="int8", report=GATE)
    model = onnx.load(files.onnx)
    onnx.helper.set_model_props(model, {META_KEY: meta.to_json()})
    (folder / "street_int8.onnx").write_bytes(with_checksum(model.SerializeToString()))
    tflite_meta, flatbuffer = read_trailer(files.tflite)
    tflite_meta = replace(tflite_meta, precision="int8", report=GATE)
    (folder / "street_int8.tflite").write_bytes(with_trailer(flatbuffer, tflite_meta))
    int8 = replace(files, int8_onnx=folder / "street_int8.onnx", int8_tflite=folder / "street_int8.tflite")
    return replace(request_for_files, files=int8, frames=request_for_files.frames[:1])


@pytest.mark.parametrize(
    ("write", "int8_file"),
    [
        (onnx_nms.write, "model_int8.onnx"),
        (tflite_app.write, "model_int8.tflite"),
        (deepstream.write, "model_int8.onnx"),
        (triton.write, "repository/street_int8/1/model.onnx"),
        (frigate.write, "model_int8.tflite"),
    ],
    ids=NAMES,
)
def test_the_int8_file_is_there_with_the_verdict_it_was_made_under(
    write: Callable[[Request], list[Agreement]], int8_file: str, with_int8: Request
) -> None:
    verdicts = {agreement.file: agreement.gate for agreement in write(with_int8)}
    assert verdicts.pop(int8_file) == "PASSED"
    assert set(verdicts.values()) == {None}
    assert (with_int8.folder / int8_file).is_file()


@pytest.mark.parametrize(
    ("precision", "rules"), [("fp32", DEFAULT_RULES), ("int8", DEFAULT_RULES), ("int8", ORIGINALS["zylo117"])]
)
def test_of_several_classes_the_best_anchors_of_a_level_are_enough(
    precision: str, rules: NmsRules, tmp_path: Path
) -> None:
    """Of P3's 2,880 anchors the operator gets 1,000; the boxes are those of all (``write`` compares them)."""
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 160)), num_classes=5)
    model, pixels = graph_of(random_network(spec)), random_pixels(spec)
    plan = None if precision == "fp32" else plan_for(model, spec, pixels)
    path = tmp_path / "five.tflite"
    meta = write_tflite(model, replace(meta_of(spec), nms=rules), path, plan)
    files = ModelFiles("five", path, path) if plan is None else ModelFiles("five", path, None, None, path)
    frames = [ModelInput(random_pixels(spec, seed), (1.0, 1.0), spec.input_hw) for seed in (1, 2)]
    (agreement,) = tflite_app.write(Request(files, meta, tmp_path / "app", frames, threads=1))
    assert agreement.boxes > 20
    assert agreement.least_iou > 0.999
    operators = operators_of((tmp_path / "app" / agreement.file).read_bytes())
    assert (operators["TOPK_V2"], operators["GATHER"]) == (1, 3)
    assert operators["ARG_MAX"] == (rules.candidates == "anchors")  # only these rules want the best class of an anchor


@pytest.mark.slow(first=True)
def test_the_command_writes_every_target_of_an_int8_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export", "--phi", "0", "--weights", "demo", "--int8", "--frames", "40", "--threads", "1", "--json"]
    assert main([*export, "--out", str(tmp_path), "--for", ",".join(NAMES)]) == 0
    written = json.loads(capsys.readouterr().out)["targets"]
    assert [item["target"] for item in written] == list(NAMES)
    for item in written:
        agreements = {agreement["file"]: agreement for agreement in item["agreements"]}
        int8 = [agreement for name, agreement in agreements.items() if "_int8" in name]
        assert [agreement["gate"] for agreement in int8] == ["PASSED"]
        for agreement in agreements.values():
            assert agreement["boxes"] > 50
            assert agreement["least_iou"] > 0.99
            assert agreement["most_score_difference"] < 1e-3
    model = f"{demo.MODEL_NAME}_int8"
    assert (tmp_path / "triton/repository" / model / "1/model.onnx").is_file()
