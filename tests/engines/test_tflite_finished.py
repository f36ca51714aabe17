"""TFLite files of other makers that end in TFLite_Detection_PostProcess run as they are.

The file here is small and of our own making, with the operator as TensorFlow's converter writes it: the colours of two
pixels are the scores of three classes for two fixed boxes. scripts/make/automl_files.py makes real ones, by TensorFlow.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
flexbuffers = pytest.importorskip("flatbuffers.flexbuffers", reason="needs the tflite extra")
pytest.importorskip("cv2", reason="pictures are resized by OpenCV")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edgedet import Detector
from edgedet.engines.base import open_engine
from edgedet.engines.tflite_finished import POSTPROCESS
from edgedet.errors import ArtifactError
from edgedet.export.tflite.builder import IDENTIFIER, Scales, TfliteBuilder

OPTIONS = {
    "max_detections": 10,
    "max_classes_per_detection": 1,
    "nms_score_threshold": 0.2,
    "nms_iou_threshold": 0.5,
    "num_classes": 3,
    "y_scale": 1.0,
    "x_scale": 1.0,
    "h_scale": 1.0,
    "w_scale": 1.0,
    "use_regular_nms": False,
}
# y x of the centre, height, width: what the pixel at the top left scores, and what that of the middle of the left edge
ANCHORS = np.array([[0.25, 0.5, 0.5, 0.25], [0.75, 0.25, 0.25, 0.5]], np.float32)
BOXES_XYXY = np.array([[48, 0, 80, 64], [0, 80, 64, 112]], np.float32)  # the same in a picture of 128 x 128
SCORES = [1 - 1e-6, 100 / 255]  # of PICTURE below; 1 has no finite logit


def write_finished(
    path: Path,
    options: dict[str, object] = OPTIONS,
    labels: str | None = None,
    input_scale: float = 1 / 255,
    input_zero: int = 0,
    boxes: np.ndarray = ANCHORS,
    float_input: bool = False,
    swish: bool = False,
) -> Path:
    """Write uint8 or float32 (1, 128, 128, 3) RGB -> boxes, classes, scores, count.

    swish: the graph has two sigmoids, whose results nothing uses.
    """
    builder = TfliteBuilder()
    if float_input:
        image = real = builder.tensor("image", (1, 128, 128, 3), np.float32)
    else:
        scales = Scales(np.array([input_scale], np.float32), input_zero)
        image = builder.tensor("image", (1, 128, 128, 3), np.int8, scales)
        builder.tensors[image].type = schema.TensorType.UINT8
        real = builder.tensor("real", (1, 128, 128, 3), np.float32)
        builder.op("DEQUANTIZE", [image], [real])
    for number in range(2 if swish else 0):
        builder.op("LOGISTIC", [real], [builder.tensor(f"sigmoid.{number}", (1, 128, 128, 3), np.float32)])
    pair = builder.tensor("pair", (1, 2, 1, 3), np.float32)
    size = builder.constant("size", np.array([2, 1], np.int32))
    builder.op("RESIZE_NEAREST_NEIGHBOR", [real, size], [pair], alignCorners=False, halfPixelCenters=False)
    scores = builder.tensor("scores", (1, 2, 3), np.float32)
    builder.op("MEAN", [pair, builder.constant("axis", np.array([2], np.int32))], [scores], keepDims=False)
    codes = builder.constant("codes", np.zeros((1, 2, 4), np.float32))
    anchors = builder.constant("anchors", boxes)
    outputs = [builder.tensor(f"StatefulPartitionedCall:{n}", (), np.float32) for n in range(4)]
    shuffled = [outputs[n] for n in (3, 1, 0, 2)]  # as converters do: names and order say nothing
    model = schema.ModelT.InitFromPackedBuf(builder.finished([image], shuffled))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = POSTPROCESS, 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [codes, scores, anchors], outputs
    operator.customOptions = list(flexbuffers.Dumps(options))
    model.subgraphs[0].operators.append(operator)
    packer = flatbuffers.Builder(0)
    packer.Finish(model.Pack(packer), IDENTIFIER)
    path.write_bytes(bytes(packer.Output()))
    if labels is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labelmap.txt", labels)
    return path


def picture() -> np.ndarray:
    """Pure red above, half dark green below, BGR."""
    bgr = np.zeros((128, 128, 3), np.uint8)
    bgr[:64, :, 2] = 255
    bgr[64:, :, 1] = 100
    return bgr


def test_boxes_classes_and_scores_are_those_of_the_file(tmp_path: Path) -> None:
    detector = Detector(write_finished(tmp_path / "lite.tflite"), threads=1, score=0.3)
    found = detector(picture())
    assert found.class_ids.tolist() == [0, 1]  # red is class 0: the channels are RGB
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, BOXES_XYXY, atol=1e-3)
    detector.close()


def test_boxes_are_scaled_back_to_the_source(tmp_path: Path) -> None:
    found = Detector(write_finished(tmp_path / "lite.tflite"), threads=1, score=0.3)(
        np.repeat(picture(), 2, 0).repeat(2, 1)
    )
    np.testing.assert_allclose(found.boxes_xyxy, 2 * BOXES_XYXY, atol=1e-3)


def test_the_label_file_inside_names_the_classes(tmp_path: Path) -> None:
    meta, _ = open_engine(write_finished(tmp_path / "lite.tflite", labels="red\ngreen\nblue\n"), threads=1)
    assert meta.class_names == ("red", "green", "blue")
    assert meta.spec.name == "lite"
    assert meta.spec.input_hw == (128, 128)


def test_the_number_of_classes_is_the_files(tmp_path: Path) -> None:
    """Three scores a box, of one of which the name is known; a file of five classes said that it had ninety."""
    meta, _ = open_engine(write_finished(tmp_path / "lite.tflite"), threads=1)
    assert meta.class_names == ("class_0", "class_1", "class_2")
    meta, engine = open_engine(write_finished(tmp_path / "lite.tflite", labels="red\n"), threads=1)
    assert meta.class_names == ("red", "class_1", "class_2")
    assert engine.infer(picture()[None]).class_logits[1, 1] > -1  # the second box, of class 1


def test_boxes_that_the_file_kept_are_kept(tmp_path: Path) -> None:
    """Its operator drops above IoU 0.9 here: the two boxes overlap by 0.6, and a second NMS would drop one."""
    near = np.array([[0.5, 0.5, 0.5, 0.4], [0.5, 0.6, 0.5, 0.4]], np.float32)
    path = write_finished(tmp_path / "lite.tflite", {**OPTIONS, "nms_iou_threshold": 0.9}, boxes=near)
    bgr = picture()
    bgr[64:, :] = (0, 0, 150)  # the same class twice
    with Detector(path, threads=1, score=0.3) as detector:
        found = detector(bgr)
    assert found.class_ids.tolist() == [0, 0]


def test_pixels_go_in_by_the_inputs_scale_and_zero_point(tmp_path: Path) -> None:
    """As automl's D0: real = .01866 x (integer - 114) holds (pixel / 255 - mean) / std of ImageNet."""
    path = write_finished(tmp_path / "d0.tflite", input_scale=0.01866, input_zero=114)
    with Detector(path, threads=1, score=0.3) as detector:
        found = detector(picture())
        assert detector.meta.spec.fill_rgb == (124, 116, 104)
    red, green = (1 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224
    assert red > 1 > green  # what the file scores pixels with; above 1 it counts as 1 - 1e-6
    assert found.class_ids.tolist() == [0]
    np.testing.assert_allclose(found.scores, [1 - 1e-6], atol=1e-6)
    with open_engine(path, threads=1)[1] as engine:
        pixels = np.zeros((1, 128, 128, 3), np.uint8)
        pixels[:, :64, :, 2], pixels[:, 64:, :, 1] = 140, 150  # as integers they would stand for 0.485 and 0.672
        logits = engine.infer(pixels).class_logits
        expected = np.array([(140 / 255 - 0.485) / 0.229, (150 / 255 - 0.456) / 0.224])  # 0.280 and 0.590
        found = 1 / (1 + np.exp(-logits[[1, 0], [0, 1]]))  # the better box comes first
        np.testing.assert_allclose(found, expected, atol=0.01)  # half a step of the input's scale


def test_lite_pixels_are_the_integers_themselves(tmp_path: Path) -> None:
    """(pixel - 127) / 128 by scale 1/128 and zero point 127."""
    meta, _ = open_engine(write_finished(tmp_path / "l.tflite", input_scale=1 / 128, input_zero=127), threads=1)
    assert meta.spec.fill_rgb == (127, 127, 127)


@pytest.mark.parametrize(
    ("swish", "said", "mean", "std"),
    [
        (True, "RGB by ImageNet's mean and deviation", np.array([0.485, 0.456]), np.array([0.229, 0.224])),
        (False, "RGB by mean 127 and deviation 128, as it has no swish", np.full(2, 127 / 255), np.full(2, 128 / 255)),
    ],
)
def test_float_files_get_pixels_by_the_numbers_of_their_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], swish: bool, said: str, mean: np.ndarray, std: np.ndarray
) -> None:
    """automl's FP32 and FP16 exports: they had been refused as no uint8."""
    path = write_finished(tmp_path / "fp32.tflite", float_input=True, swish=swish)
    with open_engine(path, threads=1)[1] as engine:
        pixels = np.zeros((1, 128, 128, 3), np.uint8)
        pixels[:, :64, :, 2], pixels[:, 64:, :, 1] = 180, 160  # red above, green below
        logits = engine.infer(pixels).class_logits
    expected = (np.array([180, 160]) / 255 - mean) / std  # 0.965 and 0.765, or 0.414 and 0.258
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[[0, 1], [0, 1]])), expected, atol=1e-5)
    assert capsys.readouterr().err == f"edgedet: {path} is read as automl's float export: {said}.\n"


def test_a_scale_of_no_known_normalisation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="takes pixels by scale 0.5 and zero point 3, which fits no normalisation"):
        open_engine(write_finished(tmp_path / "odd.tflite", input_scale=0.5, input_zero=3), threads=1)


def test_a_file_that_cannot_run_is_refused_in_one_line(tmp_path: Path) -> None:
    """num_classes 7 where there are 3 scores: the operator fails, in the process of the probe."""
    path = write_finished(tmp_path / "lite.tflite", {**OPTIONS, "num_classes": 7})
    with pytest.raises(ArtifactError, match=r"lite.tflite is damaged or needs another runtime: ") as raised:
        open_engine(path, threads=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    data = write_finished(tmp_path / "lite.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match="cut.tflite"):
        open_engine(path, threads=1)
