"""Write tests/golden/tf_checkpoint.tar.gz and .npz: a small TensorFlow checkpoint, and what TensorFlow restores of it.

And tf_object_checkpoint.*: the same variables by object, as automl's tf2/train.py saves them.

    python scripts/make/tf_checkpoint.py                     # needs TensorFlow 2.15
    python scripts/make/tf_checkpoint.py --whole EFFICIENTDET_FOLDER OUT [MODEL ...]
    python scripts/make/tf_checkpoint.py --compare OUT       # needs PyTorch instead

The layout is that of google/automl's published efficientdet-d0.tar.gz: the files checkpoint, model.index and
model.data-00000-of-00001 in a folder, tensors under their variables' names with averages and momentum beside them.
With --whole, OUT gets whole models, by default all of automl's, each as a folder with the variables that automl's own
code makes. The averages are the weights of tests/golden/layout_outputs.json, so --compare can hold what edgedet's
network gives, with the checkpoint read from the folder, against what automl's gave.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from layout_fixtures import GOLDEN, RUNS, picture, sampled, seeded_array

SMALL = {
    "efficientnet-b0/stem/conv2d/kernel": (3, 3, 3, 4),
    "efficientnet-b0/stem/tpu_batch_normalization/moving_variance": (4,),
    "fpn_cells/cell_0/fnode0/WSM": (),
    "fpn_cells/cell_0/fnode0/WSM_1": (),
    "resample_p6/bn/gamma": (8,),
    "class_net/class-predict/pointwise_kernel": (1, 1, 4, 18),
    "box_net/box-predict/bias": (36,),
}


def save(values: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Save a checkpoint of variables and a step; return what TensorFlow reads back."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [
            v1.Variable(np.int64(1234), name="global_step"),
            v1.Variable(np.float32(0.1), name="learning_rate"),
            *(v1.Variable(value, name=name) for name, value in values.items()),
        ]
        session.run(v1.global_variables_initializer())
        v1.train.Saver(variables).save(session, str(folder / "model"), write_meta_graph=False)
    reader = tf.train.load_checkpoint(str(folder / "model"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def save_by_object(shapes: dict[str, tuple[int, ...]], folder: Path) -> dict[str, np.ndarray]:
    """Save variables below attributes, averages as slots of an optimizer; return the averages by variable."""
    import tensorflow as tf

    class Averages(tf.keras.optimizers.legacy.Optimizer):
        """Keeps slots as tensorflow_addons' MovingAverage, of which automl makes use."""

        def get_config(self) -> dict[str, Any]:
            return {}

        def _create_slots(self, var_list: Any) -> None:
            for variable in var_list:
                self.add_slot(variable, "average", initializer="zeros")
                self.add_slot(variable, "momentum", initializer="zeros")

        def _resource_apply_dense(self, grad: Any, var: Any, apply_state: Any) -> Any:
            return tf.no_op()

    model = tf.Module()
    model.parts = [tf.Variable(seeded_array(name, shape), name=name) for name, shape in shapes.items()]
    optimizer = Averages("averages")
    optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in model.parts])
    averages = {}
    for name, variable in zip(shapes, model.parts, strict=True):
        averages[name] = seeded_array(name + "/ExponentialMovingAverage", shapes[name])
        optimizer.get_slot(variable, "average").assign(averages[name])
    tf.train.Checkpoint(backbone=model, optimizer=optimizer).save(str(folder / "ckpt"))
    return averages


def save_whole(model: str, sources: str, folder: Path) -> None:
    """Save one of automl's models, under the names that its own code gives."""
    sys.path.insert(0, sources)
    import hparams_config
    import tensorflow as tf
    from tf2 import efficientdet_keras

    tf.keras.backend.clear_session()
    run = RUNS["automl"][model]
    config: Any = hparams_config.get_efficientdet_config(model)
    config.is_training_bn = False
    config.num_classes, config.image_size = run.classes, run.side
    network = efficientdet_keras.EfficientDetNet(config=config)
    network.build((1, run.side, run.side, 3))
    values = {}
    for layer in network.layers:
        for weight in layer.weights:
            name, shape = weight.name.removesuffix(":0"), tuple(weight.shape)
            values[name] = np.zeros(shape, np.float32)
            values[f"{name}/ExponentialMovingAverage"] = seeded_array(f"{layer.name}/{weight.name}", shape, run.gain)
    folder.mkdir(parents=True, exist_ok=True)
    save(values, folder)


def compare_whole(folder: Path) -> str:
    """Return a row of a table: how far edgedet's network with a saved checkpoint is from automl's own outputs."""
    import torch

    sys.path.insert(0, str(GOLDEN.parents[1]))
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
    from edgedet.specs import resized

    checkpoint = load_checkpoint(folder / "model.index")
    kept = json.loads((GOLDEN / "layout_outputs.json").read_text(encoding="utf-8"))["automl"][folder.name]
    side = kept["side"]
    network = network_from_checkpoint(replace(checkpoint, spec=resized(checkpoint.spec, (side, side))))
    with torch.inference_mode():
        outputs = [output[0].numpy() for output in network(torch.from_numpy(picture(side)))]
    actual = sampled(*outputs)
    worst = [
        np.abs(np.array(actual[key]["samples"]) * actual[key]["largest"] / kept[key]["largest"] - kept[key]["samples"])
        for key in ("class_logits", "box_codes")
    ]
    size, tensors = (folder / "model.data-00000-of-00001").stat().st_size, len(checkpoint.state)
    shares = " | ".join(f"{differences.max():.1e}" for differences in worst)
    return f"| {folder.name} | {checkpoint.spec.name} | {size / 1e6:.0f} | {tensors} | {side} | {shares} |"


def main() -> None:
    """Write the archive, and the arrays that TensorFlow restores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", nargs="+", metavar=("SOURCES", "OUT"))
    parser.add_argument("--compare", type=Path, metavar="OUT")
    args = parser.parse_args()
    if args.compare:
        for folder in sorted(args.compare.iterdir()):
            print(compare_whole(folder), flush=True)
        return
    if args.whole:
        sources, out, *models = args.whole
        for model in models or RUNS["automl"]:
            save_whole(model, sources, Path(out) / model)
            print(f"saved {model}", flush=True)
        return
    suffixes = ("", "/ExponentialMovingAverage", "/Momentum")
    small = {name + suffix: seeded_array(name + suffix, shape) for name, shape in SMALL.items() for suffix in suffixes}
    with tempfile.TemporaryDirectory() as folder:
        restored = save(small, Path(folder))
        with tarfile.open(GOLDEN / "tf_checkpoint.tar.gz", "w:gz") as archive:
            archive.add(folder, "efficientdet-d0")
    np.savez_compressed(GOLDEN / "tf_checkpoint.npz", **restored)
    with tempfile.TemporaryDirectory() as folder:
        averages = save_by_object(SMALL, Path(folder))
        with tarfile.open(GOLDEN / "tf_object_checkpoint.tar.gz", "w:gz") as archive:
            archive.add(folder, "model")
    np.savez_compressed(GOLDEN / "tf_object_checkpoint.npz", **averages)


if __name__ == "__main__":
    main()
