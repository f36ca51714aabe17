"""ONNX files with boxes in edgedet: its own of `--for onnx-nms`, and files with the inputs and outputs of other makers.

Their files are imitated: a graph with their inputs and outputs, whose one score is the mean of the red pixels that it
gets. scripts/make/effdet_onnx.py makes a real one of effdet's, which takes a minute.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgedet
from edgedet import Detector, demo
from edgedet.cli import main
from edgedet.engines.base import open_engine
from edgedet.engines.tensorrt.build import choose_file
from edgedet.errors import ArtifactError, UnsupportedError
from edgedet.export.interop import deepstream, onnx_nms
from edgedet.export.interop.target import Request

BOX_XYXY = [16.0, 32.0, 80.0, 96.0]
RED = 160  # of the picture: (160 / 255 - 0.485) / 0.229 = 0.6221 by ImageNet's mean and deviation


def write_imitation(path: Path, maker: str, class_id: int = 3, side: int | str = 128) -> Path:
    """Write a graph whose only detection has BOX_XYXY, the mean of the red pixels as its score, and a class."""
    if maker == "effdet":  # x1 y1 x2 y2 score class
        kind, shape, red, divisor = TensorProto.FLOAT, [1, 3, side, side], 1, 1.0
        parts = ([*BOX_XYXY], [float(class_id)])
    else:  # image_id y1 x1 y2 x2 score class
        kind, shape, red, divisor = TensorProto.UINT8, [1, side, side, 3], 3, 255.0
        parts = ([0.0, *(BOX_XYXY[at] for at in (1, 0, 3, 2))], [float(class_id)])
    width = len(parts[0]) + 2
    constants = {
        "red": np.array(0),
        "divisor": np.array(divisor, np.float32),
        "before": np.array(parts[0], np.float32),
        "behind": np.array(parts[1], np.float32),
        "one": np.array([1]),
        "row": np.array([1, 1, width]),
        "padding": np.zeros((1, 2, width), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["real", "red"], ["reds"], axis=red),
        helper.make_node("ReduceMean", ["reds"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "divisor"], ["share"]),
        helper.make_node("Reshape", ["share", "one"], ["score"]),
        helper.make_node("Concat", ["before", "score", "behind"], ["flat"], axis=0),
        helper.make_node("Reshape", ["flat", "row"], ["first"]),
        helper.make_node("Concat", ["first", "padding"], ["detections"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "imitation",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, [1, 3, width])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def picture() -> np.ndarray:
    return np.full((128, 128, 3), (10, 20, RED), np.uint8)


@pytest.mark.parametrize(("maker", "score"), [("effdet", (RED / 255 - 0.485) / 0.229), ("automl", RED / 255)])
def test_boxes_of_other_makers_come_with_their_pixels_and_classes(
    maker: str, score: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their class 3 is COCO's slot 2; what is taken for granted is said once."""
    path = write_imitation(tmp_path / f"{maker}.onnx", maker)
    for _ in range(2):
        with Detector(path, 1) as detector:
            found = detector(picture())
    np.testing.assert_allclose(found.boxes_xyxy, [BOX_XYXY], atol=1e-3)
    np.testing.assert_allclose(found.scores, [score], atol=1e-4)
    assert found.class_ids.tolist() == [2]
    (line,) = capsys.readouterr().err.splitlines()
    assert f"is read as {maker}'s" in line


def test_files_of_other_makers_run_evaluate_and_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_imitation(tmp_path / "other.onnx", "automl")
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    assert main(["run", str(path), str(tmp_path / "a.png")]) == 0
    assert "class_2  0.63" in capsys.readouterr().out.replace(",", "")
    x1, y1, x2, y2 = BOX_XYXY
    box = {"id": 1, "image_id": 0, "category_id": 3, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 4096, "iscrowd": 0}
    images = [{"id": 0, "file_name": "a.png", "width": 128, "height": 128}]
    labels = {"images": images, "annotations": [box], "categories": [{"id": 3, "name": "car"}]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    evaluation = edgedet.evaluate(path, tmp_path / "labels.json", images=tmp_path)
    assert evaluation.accuracy.figures["AP"] == pytest.approx(1.0)
    result = edgedet.benchmark([str(path)], source=str(tmp_path / "a.png"), runs=2, seconds=0, threads=1)
    assert (len(result.models), result.failures) == (1, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"side": "height"}, "with a fixed input size"),
        ({"side": 16}, "runs models from 128 pixels a side on"),
    ],
)
def test_files_that_are_not_known_are_refused_in_one_line(change: dict, said: str, tmp_path: Path) -> None:
    path = write_imitation(tmp_path / "other.onnx", "effdet", **change)
    with pytest.raises(ArtifactError, match=said) as caught:
        open_engine(path, 1)
    assert len(str(caught.value).splitlines()) == 1


def test_a_class_that_coco_does_not_have_is_one_line(tmp_path: Path) -> None:
    path = write_imitation(tmp_path / "other.onnx", "effdet", class_id=91)
    with Detector(path, 1) as detector, pytest.raises(ArtifactError, match="class 90, but its metadata names 90"):
        detector(picture())


def test_edgedets_own_file_with_boxes_gives_those_of_the_raw_file(request_for_files: Request) -> None:
    onnx_nms.write(request_for_files)
    bgr = cv2.resize(demo.clip_frames(1)[0], (384, 256))
    with (
        Detector(str(request_for_files.files.onnx), 1) as raw,
        Detector(str(request_for_files.folder / "model.onnx"), 1) as finished,
    ):
        expected, actual = raw(bgr), finished(bgr)
        assert finished.meta.precision == raw.meta.precision == "fp32"
        assert finished.class_names == ("person",)
    assert len(expected) > 0
    np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-5)


def test_a_file_for_deepstream_is_refused_in_one_line(
    request_for_files: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deepstream.write(request_for_files)
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((64, 64, 3), np.uint8))
    assert main(["run", str(request_for_files.folder / "model.onnx"), str(tmp_path / "black.png")]) == 2
    error = capsys.readouterr().err
    assert "holds no edgedet metadata" in error
    assert "export the checkpoint with edgedet" in error
    assert "Traceback" not in error


def test_no_engine_is_built_of_a_file_that_ends_in_boxes(request_for_files: Request) -> None:
    onnx_nms.write(request_for_files)
    with pytest.raises(UnsupportedError, match="ends in boxes"):
        choose_file(object(), request_for_files.folder / "model.onnx")
