"""`--for tflite-app`: boxes of the operator, float and INT8, the metadata, and the file back in edgedet."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgedet import Detections, Detector, demo
from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.engines.base import open_engine, read_meta
from edgedet.engines.fake import FakeEngine, save_fake
from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import ArtifactError, UnsupportedError, VerificationError
from edgedet.export.interop import tflite_app
from edgedet.export.interop.target import ModelFiles, Request, compare
from edgedet.export.interop.tflite_detections import BEST_OF_ALL, append_operator, with_detections
from edgedet.export.interop.tflite_metadata import BUFFER_NAME
from edgedet.export.tflite.builder import TfliteBuilder
from edgedet.postprocess import ORIGINALS, NmsRules, logit_of, postprocess
from edgedet.preprocess import Preprocessor
from edgedet.specs import resized, spec_for
from edgedet.types import ModelInput, RawOutputs


@pytest.fixture
def int8_request(request_for_files: Request) -> Request:
    """Ask for the bundled INT8 file."""
    meta = read_meta(demo.INT8)
    preprocess = Preprocessor(meta.spec)
    frames = []
    for bgr in demo.clip_frames(2):
        frame = preprocess(bgr)
        frames.append(ModelInput(np.array(frame.pixels), frame.scale_to_source, frame.source_hw))
    files = replace(request_for_files.files, tflite=None, int8_tflite=demo.INT8)
    return replace(request_for_files, files=files, meta=meta, frames=frames)


def test_float_boxes_are_those_of_the_raw_file(request_for_files: Request) -> None:
    (agreement,) = tflite_app.write(request_for_files)
    assert agreement.boxes > 5
    assert agreement.least_iou > 0.999
    assert agreement.most_score_difference < 1e-4


def test_int8_boxes_are_those_of_the_raw_file_and_the_network_stays_int8(int8_request: Request) -> None:
    (agreement,) = tflite_app.write(int8_request)
    assert (agreement.file, agreement.frames) == ("model_int8.tflite", 2)
    assert agreement.boxes > 5
    assert agreement.least_iou > 0.999
    assert agreement.most_score_difference < 1e-4
    model = schema.ModelT.InitFromPackedBuf((int8_request.folder / "model_int8.tflite").read_bytes(), 0)
    graph = model.subgraphs[0]
    convs = [op for op in graph.operators if op.builtinOptionsType == schema.BuiltinOptions.Conv2DOptions]
    assert all(graph.tensors[int(op.outputs[0])].type == schema.TensorType.INT8 for op in convs)


@pytest.mark.parametrize(("for_coral", "first"), [(False, ["DEQUANTIZE", "QUANTIZE"]), (True, ["QUANTIZE"])])
def test_bytes_become_int8_without_a_change(for_coral: bool, first: list[str], int8_request: Request) -> None:
    """By two operators, which LiteRT runs faster, or by one, which Coral's compiler wants."""
    meta, flatbuffer = read_trailer(int8_request.files.int8_tflite)
    builder, image, outputs = with_detections(flatbuffer, meta, for_coral)
    network_input = int(builder.operators[len(first) - 1].outputs[0])
    data = builder.finished([image], (network_input, *outputs))
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in model.subgraphs[0].operators]
    assert kinds[: len(first)] == [getattr(schema.BuiltinOperator, name) for name in first]
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    pixels = np.random.default_rng(0).integers(0, 256, (1, *meta.spec.input_hw, 3), np.uint8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    given = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(given, (pixels ^ 0x80).view(np.int8))


def test_the_interface_is_what_readers_by_position_expect(request_for_files: Request) -> None:
    """Frigate and Coral's programs read uint8 RGB, then boxes, classes, scores and the number, by position."""
    tflite_app.write(request_for_files)
    interpreter = Interpreter(model_path=str(request_for_files.folder / "model.tflite"))
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    assert (image["dtype"], image["shape"].tolist()) == (np.uint8, [1, 256, 384, 3])
    pixels = request_for_files.frames[0].pixels
    interpreter.set_tensor(image["index"], np.ascontiguousarray(pixels[..., ::-1]))
    interpreter.invoke()
    boxes, classes, scores, number = (
        interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()
    )
    assert (boxes.shape, classes.shape, scores.shape, number.shape) == ((1, 100, 4), (1, 100), (1, 100), (1,))
    n = int(number[0])
    assert n > 0
    assert (np.diff(scores[0, :n]) <= 0).all()
    assert (boxes[0, :n, 2:] > boxes[0, :n, :2]).all()


def test_metadata_names_the_outputs_and_labels_lie_behind_the_file(request_for_files: Request) -> None:
    tflite_app.write(request_for_files)
    path = request_for_files.folder / "model.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (entry,) = model.metadata
    assert entry.name == BUFFER_NAME.encode()
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    for name in (b"location", b"category", b"score", b"number of detections", b"labels.txt", b"detection_result"):
        assert name in data
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt") == b"person\n"
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_edgedet_itself_runs_the_file(kind: str, request_for_files: Request, int8_request: Request) -> None:
    """With the border's colour, the names and the precision of the file that it was made from."""
    request = request_for_files if kind == "float" else int8_request
    tflite_app.write(request)
    source = request.files.tflite or request.files.int8_tflite
    bgr = demo.clip_frames(1)[0][:, :400]  # fills no side of the input wholly
    with Detector(str(source), 1) as raw, Detector(str(next(request.folder.glob("*.tflite"))), 1) as app:
        expected, actual = raw(bgr), app(bgr)
        assert app.class_names == ("person",)
        assert app.meta.spec.fill_rgb == raw.meta.spec.fill_rgb == (124, 116, 104)
        assert app.meta.precision == raw.meta.precision
        assert app.meta.nms.method == "none"
    assert len(expected) > 0
    np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-4)


def test_a_damaged_file_is_refused_by_its_checksum(request_for_files: Request) -> None:
    tflite_app.write(request_for_files)
    path = request_for_files.folder / "model.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="checksum is not the one that was written"):
        open_engine(path, 1)


def test_boxes_over_the_edge_are_compared_as_the_operator_sees_them(tmp_path: Path) -> None:
    """Uncut, two boxes overlap by IoU 36 / 120 and both stay; cut at 128 pixels, by 24 / 28, and one goes."""
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=1)
    meta = ArtifactMeta(spec, ("person",), "fp32", "0" * 64)
    boxes = [(0, 0.9, (100.0, 10.0, 140.0, 60.0)), (0, 0.6, (104.0, 10.0, 220.0, 60.0))]
    save_fake(tmp_path / "edge.fake", meta, boxes)
    pixels = np.zeros((1, 128, 128, 3), np.uint8)
    files = ModelFiles("edge", tmp_path / "edge.fake")
    request = Request(files, meta, tmp_path, [ModelInput(pixels, (1.0, 1.0), (128, 128))], threads=1)
    engine = FakeEngine(meta, boxes)
    uncut = replace(meta.nms, clip="nothing")

    def operator(pixels: np.ndarray) -> Detections:
        return postprocess(engine.infer(pixels), anchors_for(spec), 1.0, (128, 128), 0.1, rules=uncut)

    assert compare(operator, files.onnx, request, "x.tflite", clip="nothing").boxes == 2
    with pytest.raises(VerificationError, match="a box of score 0.600 that the model does not detect"):
        compare(operator, files.onnx, request, "x.onnx")


def test_rules_that_the_operator_does_not_know_are_refused(request_for_files: Request) -> None:
    meta, flatbuffer = read_trailer(request_for_files.files.tflite)
    with pytest.raises(UnsupportedError, match="original-nms"):
        with_detections(flatbuffer, replace(meta, nms=ORIGINALS["automl"]))


def test_where_all_anchors_pass_the_boxes_are_those_of_edgedet() -> None:
    """The operator is then given some of the anchors only; the best 100 boxes are among them."""
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (256, 256)), num_classes=4)
    meta = ArtifactMeta(spec, ("a", "b", "c", "d"), "fp32", "0" * 64)
    anchors, rng = anchors_for(spec), np.random.default_rng(3)
    logits = rng.standard_normal((len(anchors), 4), np.float32) - 1
    codes = 0.3 * rng.standard_normal((len(anchors), 4), np.float32)
    sides = [(32, 9), (16, 9), (8, 9), (4, 9), (2, 9)]
    builder, tensors, values = TfliteBuilder(), [], []
    for name, data in (("logits", logits), ("codes", codes)):
        first = 0
        for level, (side, per_place) in enumerate(sides):
            count = side * side * per_place
            shape = (1, side, side, per_place * data.shape[1])
            tensors.append(builder.tensor(f"{name}.{level}", shape, np.float32))
            values.append(data[first : first + count].reshape(shape))
            first += count
        assert first == len(anchors)
    outputs = append_operator(builder, tensors, meta)
    scores_given = builder.tensors[builder.operators[-1].inputs[1]].shape
    assert scores_given[1] == BEST_OF_ALL < (logits.max(axis=1) > logit_of(0.1)).sum()
    interpreter = Interpreter(model_content=bytes(builder.finished(tensors, outputs)), num_threads=1)
    interpreter.allocate_tensors()
    for item, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(item["index"], value)
    interpreter.invoke()
    boxes, classes, scores, number = (interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details())
    rules = NmsRules(clip="nothing")
    expected = postprocess(RawOutputs(logits, codes), anchors, 1.0, (256, 256), 0.1, rules, (256, 256))
    assert number[0] == len(expected) == 100
    np.testing.assert_allclose(np.clip(boxes[0][:, [1, 0, 3, 2]] * 256, 0, 256), expected.boxes_xyxy, atol=0.02)
    np.testing.assert_allclose(scores[0], expected.scores, atol=1e-5)
    np.testing.assert_array_equal(classes[0], expected.class_ids)
