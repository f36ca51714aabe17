"""Write files with boxes by google/automl's own code and TensorFlow, to try files of other makers in edgedet.

    python scripts/make/automl_files.py EFFICIENTDET_FOLDER tf_efficientdet_d0_street.pth OUT [--model efficientdet-d0]
        [--calib street/train] [--onnx]

EFFICIENTDET_FOLDER is the folder of that name in a checkout of github.com/google/automl. The checkpoint's weights are
put into automl's Keras model, whose ``ExportModel`` and the converter settings of its tf2/infer_lib.py then give
OUT/fp32.tflite, OUT/fp16.tflite and, by the photographs of --calib, OUT/int8.tflite. All end in
TFLite_Detection_PostProcess. With --onnx also OUT/automl.onnx, of its inference graph by tf2onnx. Needs TensorFlow 2.15
with what automl imports (PyYAML, matplotlib, tensorflow-hub, tensorflow-addons, neural-structured-learning, numpy below
1.24), PyTorch, and for --onnx tf2onnx.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedet.export.checkpoints.checkpoint import Checkpoint, load_checkpoint
from edgedet.export.checkpoints.families.automl import canonical_from_automl

CALIBRATION_PICTURES = 64


def keras_model(sources: Path, name: str, checkpoint: Checkpoint) -> Any:
    """Return automl's model with a checkpoint's weights."""
    sys.path.insert(0, str(sources))
    import hparams_config
    from tf2 import efficientdet_keras

    config: Any = hparams_config.get_efficientdet_config(name)
    config.is_training_bn = False
    config.num_classes, config.image_size = checkpoint.spec.num_classes, checkpoint.spec.input_hw
    config.aspect_ratios = [list(ratio) for ratio in checkpoint.spec.aspect_ratios]
    model = efficientdet_keras.EfficientDetModel(config=config)
    model.build((1, *checkpoint.spec.input_hw, 3))
    put_weights(model, {key: np.asarray(value) for key, value in checkpoint.state.items()})
    return model


def put_weights(model: Any, state: dict[str, np.ndarray]) -> None:
    """Fill a Keras model from canonical tensors.

    edgedet's own conversion goes the other way. Given the numbers of the elements instead of their values, it says
    where in the canonical tensors each of them lies.
    """
    weights = {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}
    numbers, first = {}, 0
    for name, weight in weights.items():
        size = int(np.prod(weight.shape))
        numbers[name] = np.arange(first, first + size).reshape(weight.shape)
        first += size
    values, filled = np.zeros(first, np.float32), np.zeros(first, bool)
    for name, places in canonical_from_automl(numbers).state.items():
        if np.shape(places) != state[name].shape:
            raise SystemExit(f"{name} is {state[name].shape} in the checkpoint, {np.shape(places)} in automl's model.")
        values[places], filled[places] = state[name], True
    if not filled.all():
        raise SystemExit(f"{int((~filled).sum())} of {first} numbers of automl's model are not in the checkpoint.")
    for name, weight in weights.items():
        weight.assign(values[numbers[name]])


def normalised_pictures(folder: Path, checkpoint: Checkpoint) -> Callable[[], Iterator[list[np.ndarray]]]:
    """Return a representative data set for the converter: pictures as automl's dataloader gives them."""
    h, w = checkpoint.spec.input_hw
    mean, std = (np.array(values, np.float32) for values in (checkpoint.spec.mean_rgb, checkpoint.spec.std_rgb))

    def pictures() -> Iterator[list[np.ndarray]]:
        for path in islice(sorted(folder.glob("*.jpg")), CALIBRATION_PICTURES):
            bgr = cv2.imread(str(path))
            scale = min(h / bgr.shape[0], w / bgr.shape[1])
            small = cv2.resize(bgr, (round(bgr.shape[1] * scale), round(bgr.shape[0] * scale)))
            image = np.zeros((1, h, w, 3), np.float32)
            image[0, : small.shape[0], : small.shape[1]] = (small[..., ::-1] / np.float32(255) - mean) / std
            yield [image]

    return pictures


def write_tflite(
    folder: Path, out: Path, kind: str, pictures: Callable[[], Iterator[list[np.ndarray]]] | None = None
) -> None:
    """Convert the saved model as automl's ``KerasDriver.export`` does for FP32, FP16 or INT8."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), ["tflite"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "int8":
        converter.experimental_new_quantizer = True
        converter.representative_dataset = pictures
        converter.inference_input_type = tf.uint8
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,  # for the operator that ends the graph
        ]
    else:
        converter.target_spec.supported_types = [{"fp32": tf.float32, "fp16": tf.float16}[kind]]
    path = out / f"{kind}.tflite"
    path.write_bytes(converter.convert())
    print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


def write_onnx(model: Any, hw: tuple[int, int], path: Path) -> None:
    """Convert automl's inference graph, from uint8 pictures to rows of detections, by tf2onnx.

    The graph is that of ``ServingDriver.build`` in its inference.py, whose post-processing is taken from there, around
    the Keras model. Its NMS is the hard one: ONNX has no operator for the gaussian.
    """
    import tensorflow as tf
    import tf2onnx
    from inference import det_post_process

    params = model.config.as_dict()
    params["nms_configs"]["method"] = "hard"
    levels = range(params["min_level"], params["max_level"] + 1)
    mean, std = (np.array(params[name], np.float32) for name in ("mean_rgb", "stddev_rgb"))

    @tf.function(input_signature=[tf.TensorSpec((1, *hw, 3), tf.uint8, name="image_arrays")])
    def detect(image_arrays: Any) -> Any:
        images = (tf.cast(image_arrays, tf.float32) - mean) / std
        class_outputs, box_outputs = model(images, training=False, pre_mode=None, post_mode=None)[:2]
        by_level = [dict(zip(levels, outputs, strict=True)) for outputs in (class_outputs, box_outputs)]
        return det_post_process(params, *by_level, tf.ones([1]))

    tf2onnx.convert.from_function(detect, detect.input_signature, opset=13, output_path=str(path))
    print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


def main() -> None:
    """Export one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="efficientdet-d0")
    parser.add_argument("--calib", type=Path)
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    model = keras_model(args.sources, args.model, checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.onnx:
        write_onnx(model, checkpoint.spec.input_hw, args.out / "automl.onnx")

    import tensorflow as tf
    from tf2 import infer_lib

    exported, folder = infer_lib.ExportModel(model), args.out / "saved_model"
    spec = tf.TensorSpec((1, *checkpoint.spec.input_hw, 3), tf.float32, name="images")
    tf.saved_model.save(exported, str(folder), signatures={"tflite": exported.tflite.get_concrete_function(spec)})
    for kind in ("fp32", "fp16"):
        write_tflite(folder, args.out, kind)
    if args.calib:
        write_tflite(folder, args.out, "int8", normalised_pictures(args.calib, checkpoint))


if __name__ == "__main__":
    main()
