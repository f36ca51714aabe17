"""`--for frigate`: rows as Frigate's onnx detector reads them, the label map, and a configuration with known keys."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

from edgedet import Detector
from edgedet.export.interop import frigate
from edgedet.export.interop.target import Request

pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

MODEL_KEYS = {  # Frigate forbids others (detectors/detector_config.py)
    "path",
    "labelmap_path",
    "width",
    "height",
    "input_tensor",
    "input_pixel_format",
    "input_dtype",
    "model_type",
}


def read_as_frigate(rows: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Return (20, 6) class, score, y1, x1, y2, x2 as plugins/onnx.py makes them of a model of type yolonas."""
    found = np.zeros((20, 6), np.float32)
    for index, (_, x1, y1, x2, y2, score, class_id) in enumerate(rows[:20]):
        if class_id < 0:
            break
        found[index] = class_id, score, y1 / hw[0], x1 / hw[1], y2 / hw[0], x2 / hw[1]
    return found


def test_frigates_onnx_detector_gets_the_boxes_of_edgedet(request_for_files: Request) -> None:
    agreements = frigate.write(request_for_files)
    assert [agreement.file for agreement in agreements] == ["model_frigate.onnx", "model.tflite"]
    session = onnxruntime.InferenceSession(str(request_for_files.folder / "model_frigate.onnx"))
    detector = Detector(str(request_for_files.files.onnx), 1, score=0.1)
    frame = request_for_files.frames[0]
    (rows,) = session.run(None, {"pixels": frame.pixels})
    found = read_as_frigate(rows, (256, 384))
    expected = detector(frame.pixels[0])
    n = int((found[:, 1] > 0).sum())
    assert n == min(len(expected), 20) > 0
    sides = np.array([256, 384, 256, 384], np.float32)
    np.testing.assert_allclose(found[:n, 2:] * sides, expected.boxes_xyxy[:n, [1, 0, 3, 2]], atol=0.01)
    np.testing.assert_allclose(found[:n, 1], expected.scores[:n], atol=1e-5)


KINDS = ("onnx", "openvino", "cpu", "zmq")


def blocks_of(text: str) -> list[dict[str, Any]]:
    """Return each block of a configuration, the commented ones, too."""
    parts = re.split(r"^# \d\. .*$", text, flags=re.MULTILINE)[1:]
    return [yaml.safe_load(re.sub(r"^# ", "", part, flags=re.MULTILINE)) for part in parts]


def migrated(config: dict[str, Any]) -> dict[str, Any]:
    """Return settings of 0.18 as Frigate 0.19 rewrites them (its tests of migrate_models): an oracle by hand."""
    (detector,) = config["detectors"].values()
    setting = [str(value) for key, value in detector.items() if key != "type"]
    return {"models": [{"scene": "all", "devices": [":".join([detector["type"], *setting])], **config["model"]}]}


def test_each_block_of_the_configuration_is_yaml_with_known_keys(request_for_files: Request) -> None:
    frigate.write(request_for_files)
    released = blocks_of((request_for_files.folder / "config.yml").read_text())
    assert [block["detectors"]["edgedet"]["type"] for block in released] == list(KINDS)
    for block in released:
        assert set(block["model"]) == MODEL_KEYS
        name = block["model"]["path"].rsplit("/", 1)[1]
        assert (request_for_files.folder / name).is_file()
    coming = blocks_of((request_for_files.folder / "config-0.19.yml").read_text())
    assert coming == [migrated(block) for block in released]
    assert [block["models"][0]["devices"] for block in coming] == [
        ["onnx"],
        ["openvino:CPU"],
        ["cpu:2"],
        ["zmq:ipc:///tmp/cache/zmq_detector"],
    ]


def test_regions_are_stretched_only_where_the_file_itself_takes_them(request_for_files: Request) -> None:
    """The model's input is 384x256: Frigate's square regions keep their shape in the zmq block only."""
    frigate.write(request_for_files)
    blocks = blocks_of((request_for_files.folder / "config.yml").read_text())
    sizes = [(block["model"]["width"], block["model"]["height"]) for block in blocks]
    assert sizes == [(384, 256), (384, 256), (384, 256), (384, 384)]
    readme = (request_for_files.folder / "README.md").read_text()
    assert "export with --size 384x384" in readme
    assert len(readme.splitlines()) == 5


def test_the_label_map_counts_from_zero(request_for_files: Request) -> None:
    frigate.write(replace(request_for_files, frames=request_for_files.frames[:1]))
    assert (request_for_files.folder / "labelmap.txt").read_text() == "0 person\n"
