"""`--for deepstream`: the outputs that NVIDIA's stock parser looks for, and keys that belong to the files."""

from __future__ import annotations

import configparser

import numpy as np
import onnxruntime

from edgedet.export.interop import deepstream
from edgedet.export.interop.target import Request


def test_outputs_are_named_and_typed_as_the_stock_parser_wants_them(request_for_files: Request) -> None:
    (agreement,) = deepstream.write(request_for_files)
    assert agreement.boxes > 5
    session = onnxruntime.InferenceSession(str(request_for_files.folder / "model.onnx"))
    outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    assert outputs == {
        "num_detections": ("tensor(float)", [1, 1]),
        "detection_boxes": ("tensor(float)", [1, 100, 4]),
        "detection_scores": ("tensor(float)", [1, 100]),
        "detection_classes": ("tensor(float)", [1, 100]),
    }
    (image,) = session.get_inputs()
    assert (image.type, image.shape) == ("tensor(float)", [1, 3, 256, 384])


def test_the_configuration_names_what_is_there(request_for_files: Request) -> None:
    deepstream.write(request_for_files)
    config = configparser.ConfigParser()
    config.read(request_for_files.folder / "config_infer_primary.txt")
    keys = config["property"]
    assert (request_for_files.folder / keys["onnx-file"]).is_file()
    assert (request_for_files.folder / keys["labelfile-path"]).read_text() == "person\n"
    assert keys["infer-dims"] == "3;256;384"
    assert keys["num-detected-classes"] == "1"
    assert keys["model-engine-file"] == "model.onnx_b1_gpu0_fp16.engine"
    assert (keys["net-scale-factor"], keys["model-color-format"]) == ("1.0", "1")
    assert len((request_for_files.folder / "README.md").read_text().splitlines()) == 5


def test_the_input_takes_bytes_as_numbers_without_normalisation(request_for_files: Request) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    planes = deepstream.planes(pixels)
    assert (planes.dtype, planes.shape) == (np.float32, (1, 3, 2, 4))
    assert planes[0, :, 1, 2].tolist() == pixels[0, 1, 2].tolist()
