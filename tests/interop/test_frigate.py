"""`--for frigate`: rows as Frigate's onnx detector reads them, the label map, and a configuration with known keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import yaml

from edgedet import Detector
from edgedet.export.interop import frigate
from edgedet.export.interop.target import Request

pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

MODEL_KEYS = {  # Frigate forbids others (detectors/detector_config.py)
    "path", "labelmap_path", "width", "height", "input_tensor", "input_pixel_format", "input_dtype", "model_type",
}  # fmt: skip


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
    found = read_as_frigate(rows, (256, 320))
    expected = detector(frame.pixels[0])
    n = int((found[:, 1] > 0).sum())
    assert n == min(len(expected), 20) > 0
    sides = np.array([256, 320, 256, 320], np.float32)
    np.testing.assert_allclose(found[:n, 2:] * sides, expected.boxes_xyxy[:n, [1, 0, 3, 2]], atol=0.01)
    np.testing.assert_allclose(found[:n, 1], expected.scores[:n], atol=1e-5)


def test_each_block_of_the_configuration_is_yaml_with_known_keys(request_for_files: Request) -> None:
    frigate.write(request_for_files)
    first, *others = (request_for_files.folder / "config.yml").read_text().split("\n# 2. ")
    blocks = [first]
    for part in others[0].split("\n# 3. "):
        blocks.append("\n".join(line[2:] for line in part.splitlines()[1:]))
    assert len(blocks) == 3
    for block, kind in zip(blocks, ("onnx", "cpu", "zmq"), strict=True):
        config = yaml.safe_load(block)
        assert config["detectors"]["edgedet"]["type"] == kind
        assert set(config["model"]) <= MODEL_KEYS
        assert (config["model"]["width"], config["model"]["height"]) == (320, 256)
        name = config["model"]["path"].rsplit("/", 1)[1]
        assert (request_for_files.folder / name).is_file()


def test_the_label_map_counts_from_zero(request_for_files: Request) -> None:
    frigate.write(replace(request_for_files, frames=request_for_files.frames[:1]))
    assert (request_for_files.folder / "labelmap.txt").read_text() == "0 person\n"
