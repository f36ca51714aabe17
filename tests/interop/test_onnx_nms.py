"""`--for onnx-nms`: the boxes of `edgedet run`, standard operators only, and refusals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import random_network

from edgedet import Detections, Detector
from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.cli import main
from edgedet.engines.base import open_engine, read_meta
from edgedet.engines.ort import BATCH_NAME
from edgedet.errors import InputError, UnsupportedError, VerificationError
from edgedet.export.checkpoints.checkpoint import Checkpoint, save_checkpoint
from edgedet.export.export_model import export_model
from edgedet.export.interop import onnx_nms
from edgedet.export.interop.graph_input import load_graph
from edgedet.export.interop.onnx_detections import XYXY_PIXELS, FourNames, four_outputs
from edgedet.export.interop.target import LOWEST_SCORE, ModelFiles, Request, compare
from edgedet.export.interop.targets import targets_named, write_targets
from edgedet.export.onnx_file import read_graph, write_onnx
from edgedet.postprocess import ORIGINALS, encode, postprocess
from edgedet.preprocess import Preprocessor
from edgedet.specs import resized, spec_for
from edgedet.stream.images import read_image
from edgedet.types import RawOutputs


def test_the_file_gives_the_boxes_of_edgedet_run_on_photographs(request_for_files: Request, shared_dir: Path) -> None:
    onnx_nms.write(request_for_files)
    session = onnxruntime.InferenceSession(str(request_for_files.folder / "model.onnx"))
    detector = Detector(str(request_for_files.files.onnx), threads=1, score=0.4)
    preprocess = Preprocessor(detector.meta.spec)
    compared = 0
    for path in sorted((shared_dir / "data/street/test").glob("*"))[:6]:
        bgr = read_image(path)
        frame = preprocess(bgr)
        number, boxes, scores, classes = session.run(["num", "boxes", "scores", "classes"], {"pixels": frame.pixels})
        expected = detector(bgr)
        n = int((scores[0, : int(number[0, 0])] >= 0.4).sum())
        limits = np.array([bgr.shape[1], bgr.shape[0]] * 2)
        np.testing.assert_allclose(
            np.clip(boxes[0, :n] * frame.scale_to_source, 0, limits), expected.boxes_xyxy, atol=0.01
        )
        np.testing.assert_allclose(scores[0, :n], expected.scores, atol=1e-5)
        np.testing.assert_array_equal(classes[0, :n], expected.class_ids)
        compared += n
    assert compared > 10


def test_several_classes_and_no_box_at_all(tmp_path: Path) -> None:
    """Two overlapping boxes of two classes stay, one of two of the same class goes; a black picture gives none."""
    meta, logits, codes = _hand_made_outputs()
    model = _graph_of_outputs(meta)
    four_outputs(model, meta, XYXY_PIXELS, FourNames())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    number, _, scores, classes = session.run(None, {meta.outputs[0]: logits, meta.outputs[1]: codes})
    assert number.tolist() == [[2]]
    assert classes[0, :2].tolist() == [2, 0]
    np.testing.assert_allclose(scores[0, :3], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-2)), 0], atol=1e-6)
    number, boxes, scores, _ = session.run(None, {meta.outputs[0]: logits * 0 - 9, meta.outputs[1]: codes})
    assert (number[0, 0], scores.max(), boxes.max()) == (0, 0, 0)
    assert boxes.shape == (1, 100, 4)


def _hand_made_outputs() -> tuple[ArtifactMeta, np.ndarray, np.ndarray]:
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=3)
    anchors = anchors_for(spec)
    logits = np.full((1, len(anchors), 3), -9.0, np.float32)
    logits[0, 0, 2], logits[0, 1, 2], logits[0, 1, 0] = 3, 1, 2
    codes = np.zeros((1, len(anchors), 4), np.float32)
    codes[0, :2] = encode(np.array([[10, 10, 60, 60], [11, 10, 60, 60]], np.float32), anchors[:2])
    return ArtifactMeta(spec, ("a", "b", "c"), "fp32", "0" * 64), logits, codes


def test_each_picture_of_a_batch_gets_its_own_boxes() -> None:
    """As edgedet's post-processing gives them: one picture has more than 100 boxes, one has none."""
    from edgedet.anchors import anchors_for
    from edgedet.postprocess import MAX_BOXES, postprocess
    from edgedet.types import RawOutputs

    meta, _, _ = _hand_made_outputs()
    model = _graph_of_outputs(meta, BATCH_NAME)
    four_outputs(model, meta, XYXY_PIXELS, FourNames())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    anchors, rng = anchors_for(meta.spec), np.random.default_rng(7)
    mean_logits = np.array([-8, -20, -4, -7], np.float32).reshape(4, 1, 1)
    logits = mean_logits + 2 * rng.standard_normal((4, len(anchors), 3), np.float32)
    codes = rng.standard_normal((4, len(anchors), 4), np.float32)
    counts = []
    for pictures in ([0], [1], [3, 1], [0, 1, 2, 3]):
        found = session.run(None, {meta.outputs[0]: logits[pictures], meta.outputs[1]: codes[pictures]})
        assert [values.shape[0] for values in found] == [len(pictures)] * 4
        for at, picture in enumerate(pictures):
            number, boxes, scores, classes = (values[at] for values in found)
            hw = meta.spec.input_hw
            raw = RawOutputs(logits[picture], codes[picture])
            expected = postprocess(raw, anchors, 1.0, hw, LOWEST_SCORE, meta.nms, hw)
            n = int(number[0])
            assert n == len(expected)
            np.testing.assert_allclose(boxes[:n], expected.boxes_xyxy, atol=1e-3)
            np.testing.assert_allclose(scores[:n], expected.scores, atol=1e-6)
            np.testing.assert_array_equal(classes[:n], expected.class_ids)
            assert (boxes[n:].any(), scores[n:].any(), classes[n:].any()) == (False, False, False)
            counts.append(n)
    assert counts[:2] == [counts[4], 0]
    assert 0 < counts[0] < MAX_BOXES == counts[6]


def _graph_of_outputs(meta: ArtifactMeta, batch: int | str = 1) -> onnx.ModelProto:
    """A graph that passes on raw outputs, so that the operators behind them can be tested alone."""
    count = len(anchors_for(meta.spec))
    shapes = {meta.outputs[0]: (batch, count, meta.spec.num_classes), meta.outputs[1]: (batch, count, 4)}
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_graph([], "raw", inputs, inputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_only_standard_operators_are_used(model_files) -> None:
    model, meta = load_graph(model_files.onnx)
    four_outputs(model, meta, XYXY_PIXELS, FourNames())
    assert {node.domain for node in model.graph.node} == {""}
    assert [item.domain for item in model.opset_import] == [""]


def test_a_file_whose_boxes_differ_is_refused(request_for_files: Request) -> None:
    """A reader that shifts boxes, loses one or adds one is found out."""
    meta, engine = open_engine(request_for_files.files.onnx, 1)

    def honest(pixels: np.ndarray) -> Detections:
        return postprocess(engine.infer(pixels), anchors_for(meta.spec), 1.0, meta.spec.input_hw, 0.1)

    def compared(change):
        return compare(lambda pixels: change(honest(pixels)), request_for_files.files.onnx, request_for_files, "x.onnx")

    assert compared(lambda found: found).boxes > 0
    with pytest.raises(VerificationError, match="boxes overlap by"):
        compared(lambda found: replace(found, boxes_xyxy=found.boxes_xyxy + 1))
    with pytest.raises(VerificationError, match="scores differ by"):
        compared(lambda found: replace(found, scores=found.scores - 0.01))
    with pytest.raises(VerificationError, match="does not detect a box"):
        compared(lambda found: found[1:])
    with pytest.raises(VerificationError, match="detects a box of score .* that the model does not detect"):
        compared(lambda found: found[[0, *range(len(found))]])
    engine.close()


def test_the_best_class_of_an_anchor_and_boxes_cut_as_zylo117_does(tmp_path: Path) -> None:
    """Anchor 1 is of class 0 only, though its class 2 scores enough; a box over the edge ends at the last pixel."""
    meta, logits, codes = _hand_made_outputs()
    logits[0, 1] = [2, -9, 1.5]
    codes[0, 1] = encode(np.array([[90, 90, 140, 150]], np.float32), anchors_for(meta.spec)[1:2])[0]
    meta = replace(meta, nms=ORIGINALS["zylo117"])
    model = _graph_of_outputs(meta)
    four_outputs(model, meta, XYXY_PIXELS, FourNames())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    number, boxes, scores, classes = session.run(None, {meta.outputs[0]: logits, meta.outputs[1]: codes})
    raw, side = RawOutputs(logits[0], codes[0]), meta.spec.input_hw
    expected = postprocess(raw, anchors_for(meta.spec), 1.0, side, 0.1, meta.nms, side)
    assert len(expected) == number[0, 0] == 2
    assert classes[0, :2].tolist() == expected.class_ids.tolist() == [2, 0]
    np.testing.assert_allclose(boxes[0, :2], expected.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(boxes[0, 1], [90, 90, 127, 127], atol=1e-3)
    np.testing.assert_allclose(scores[0, :2], expected.scores, atol=1e-6)


def _checkpoint_of(family: str, path: Path) -> Path:
    """Save random weights of two classes as if a code base had trained them."""
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=2, family=family)
    state = {name: value for name, value in random_network(spec).state_dict().items() if value.is_floating_point()}
    save_checkpoint(Checkpoint(state, spec, ("a", "b"), "0" * 64), path)
    return path


def test_original_nms_is_recorded_and_followed_by_files_for_other_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command compares the boxes of both targets with those of the recorded rules before it keeps them."""
    weights = _checkpoint_of("zylo117", tmp_path / "zylo.safetensors")
    options = ["--original-nms", "--for", "onnx-nms,tflite-app", "--threads", "1", "--out", str(tmp_path)]
    assert main(["export", "--weights", str(weights), *options]) == 0
    for name in ("zylo.onnx", "zylo.tflite"):
        assert read_meta(tmp_path / name).nms == ORIGINALS["zylo117"]
    boxes = [int(number) for number in re.findall(r"(\d+) boxes in", capsys.readouterr().out)]
    assert len(boxes) == 2
    assert min(boxes) > 0


def test_soft_nms_is_refused_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No operator lowers scores. An INT8 export would else take minutes before it is told."""
    weights = _checkpoint_of("automl", tmp_path / "automl.safetensors")
    options = ["--original-nms", "--for", "triton", "--out", str(tmp_path / "out")]
    assert main(["export", "--weights", str(weights), *options]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot apply this NMS (soft (gaussian), best class of each anchor)" in said
    assert "leave --original-nms or --for out" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(UnsupportedError, match="leave --original-nms"):
        export_model(weights, tmp_path / "out", targets=["onnx-nms"], original_nms=True)


def test_the_command_writes_the_folder_and_refuses_unknown_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ["export", "--weights", "demo", "--size", "128x128", "--threads", "1", "--out", str(tmp_path)]
    assert main([*export, "--for", "onnx-nms"]) == 0
    assert "onnx-nms; model.onnx: " in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "onnx-nms").iterdir())
    assert names == ["README.md", "labels.txt", "model.onnx"]
    assert len((tmp_path / "onnx-nms/README.md").read_text().splitlines()) == 5
    assert (tmp_path / "onnx-nms/labels.txt").read_text() == "person\n"
    assert main([*export, "--for", "onnx-nms,nothing"]) == 2
    assert "--for takes onnx-nms" in capsys.readouterr().err


def test_a_target_that_fails_leaves_nothing_half_written(tmp_path: Path, model_files: ModelFiles) -> None:
    """A name with a line break stops it when the model is written already; there was a folder with that model alone."""
    model, meta = read_graph(model_files.onnx)
    path = tmp_path / "street.onnx"
    write_onnx(model, replace(meta, class_names=("person\u2028or dog",)), path)
    out = tmp_path / "out"
    with pytest.raises(InputError, match="holds a line break"):
        write_targets(targets_named("onnx-nms"), ModelFiles("street", path), out, None, True, 1)
    assert list(out.iterdir()) == []
    (out / "onnx-nms").mkdir()
    (out / "onnx-nms/model.engine").write_text("built of an earlier export")
    with pytest.raises(InputError, match="holds a line break"):
        write_targets(targets_named("onnx-nms"), ModelFiles("street", path), out, None, True, 1)
    assert [entry.name for entry in (out / "onnx-nms").iterdir()] == ["model.engine"]


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path, model_files: ModelFiles) -> None:
    (tmp_path / "onnx-nms").write_text("")
    with pytest.raises(InputError, match="cannot write .*onnx-nms: File exists; give another --out"):
        write_targets(targets_named("onnx-nms"), model_files, tmp_path, None, True, 1)


def test_a_list_without_names_is_refused() -> None:
    with pytest.raises(InputError, match="--for takes"):
        targets_named(" , ")
