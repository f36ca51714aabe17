"""Engines open what edgedet wrote, and say in one line what is wrong with anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from media import FAKE_BOXES, META, write_fake_model
from small_onnx import NUM_ANCHORS, write_onnx

from edgedet import demo
from edgedet.anchors import anchors_for
from edgedet.cli import main
from edgedet.engines.base import default_threads, open_engine
from edgedet.engines.fake import FakeEngine
from edgedet.errors import ArtifactError, ClosedError, ShapeError
from edgedet.postprocess import postprocess


@pytest.fixture
def onnx_file(tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX files run on onnxruntime")
    return write_onnx(tmp_path / "model.onnx")


def test_onnx_outputs_come_as_they_are(onnx_file):
    meta, engine = open_engine(onnx_file, threads=1)
    assert meta == META
    raw = engine.infer(np.full((1, 128, 128, 3), 7, np.uint8))
    assert raw.class_logits.shape == (NUM_ANCHORS, 2)
    assert (raw.class_logits == 7.0).all()
    assert (raw.box_codes == 0.5).all()
    engine.close()


def test_onnx_pixels_are_read_at_each_call(onnx_file):
    """The same buffer with other bytes, as the preprocessor reuses it, and another buffer."""
    _, engine = open_engine(onnx_file, threads=1)
    pixels = np.full((1, 128, 128, 3), 7, np.uint8)
    engine.infer(pixels)
    pixels[:] = 9
    assert (engine.infer(pixels).class_logits == 9.0).all()
    assert (engine.infer(np.full_like(pixels, 11)).class_logits == 11.0).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"metadata": None}, "holds no edgedet metadata"),
        ({"metadata": "{"}, "metadata is damaged"),
        ({"num_classes": 3}, "its metadata says"),
        ({"input_name": "image"}, "its metadata says"),
        ({"input_hw": (128, 160)}, "its metadata says"),
    ],
    ids=["foreign", "damaged", "classes", "input", "size"],
)
def test_an_onnx_file_that_is_not_ours_is_refused(tmp_path, change, complaint):
    pytest.importorskip("onnxruntime", reason="ONNX files run on onnxruntime")
    path = write_onnx(tmp_path / "other.onnx", **change)
    with pytest.raises(ArtifactError, match=complaint) as raised:
        open_engine(path, threads=1)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_onnx_file_is_refused_in_one_line(onnx_file, share, capfd):
    data = onnx_file.read_bytes()
    onnx_file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match=f"{onnx_file} (is damaged|holds no)") as raised:
        open_engine(onnx_file, threads=1)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["onnx", "fake", "tflite"])
def test_a_block_closes_an_engine_which_then_says_so(tmp_path, request, kind):
    if kind == "onnx":
        path = request.getfixturevalue("onnx_file")
    elif kind == "tflite":
        pytest.importorskip("ai_edge_litert", reason="TFLite files run on LiteRT")
        path = demo.INT8
    else:
        path = write_fake_model(tmp_path / "model.fake")
    meta, engine = open_engine(path, threads=1)
    pixels = np.zeros((1, *meta.spec.input_hw, 3), np.uint8)
    with engine as same:
        assert same is engine
        engine.infer(pixels)
    engine.close()
    with pytest.raises(ClosedError, match="this engine was closed: open the model file again"):
        engine.infer(pixels)


def test_onnxruntime_is_not_given_pixels_of_another_size(onnx_file):
    with open_engine(onnx_file, threads=1)[1] as engine, pytest.raises(ShapeError, match=r"\(1, 128, 128, 3\)"):
        engine.infer(np.zeros((1, 128, 96, 3), np.uint8))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="no model file .*missing.onnx"):
        open_engine(tmp_path / "missing.onnx", threads=1)


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(ArtifactError, match=r"weights.pth is no model that edgedet runs: wanted .*\.onnx"):
        open_engine(tmp_path / "weights.pth", threads=1)


def test_the_fake_finds_what_it_was_told(tmp_path):
    meta, engine = open_engine(write_fake_model(tmp_path / "model.fake"), threads=1)
    raw = engine.infer(np.zeros((1, 128, 128, 3), np.uint8))
    found = postprocess(raw, anchors_for(meta.spec), 1.0, (128, 128))
    np.testing.assert_allclose(found.boxes_xyxy, [box for _, _, box in FAKE_BOXES], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
    assert found.class_ids.tolist() == [0, 1]


def test_the_fake_refuses_pixels_of_another_size():
    with pytest.raises(ShapeError, match=r"\(1, 128, 128, 3\)"):
        FakeEngine(META, []).infer(np.zeros((1, 128, 96, 3), np.uint8))


@pytest.mark.parametrize("text", ["", "{}", '{"meta": {}, "boxes": []}', "\x00"])
def test_a_damaged_fake_is_refused(tmp_path, text):
    path = tmp_path / "model.fake"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError):
        open_engine(path, threads=1)


def test_default_threads_are_the_cores_of_this_process():
    assert default_threads() >= 1


def test_metadata_and_network_must_agree_on_classes(tmp_path):
    """Three names for a network of two classes."""
    pytest.importorskip("onnxruntime", reason="ONNX files run on onnxruntime")
    three = replace(META, spec=replace(META.spec, num_classes=3), class_names=("a", "b", "c"))
    with pytest.raises(ArtifactError, match="its metadata says"):
        open_engine(write_onnx(tmp_path / "model.onnx", metadata=three.to_json()), threads=1)


@pytest.mark.parametrize("command", ["run", "bench --model", "eval --data labels.json"])
def test_threads_that_no_machine_has_give_one_line(command: str, capsys: pytest.CaptureFixture[str]):
    """OpenCV would raise an OverflowError, XNNPACK end the process."""
    pytest.importorskip("cv2", reason="needs the pc extra")
    pytest.importorskip("pycocotools", reason="needs the bench extra")
    assert main([*command.split(), "model.onnx", "--threads", "99999999999"]) == 2
    assert capsys.readouterr().err == "edgedet: models run on 1 to 1024 threads; got 99999999999.\n"
