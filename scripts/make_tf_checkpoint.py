"""Write tests/golden/tf_checkpoint.tar.gz and .npz: a small TensorFlow checkpoint, and what TensorFlow restores of it.

And tf_object_checkpoint.*: the same variables by object, as automl's tf2/train.py saves them.

    python scripts/make_tf_checkpoint.py                     # needs TensorFlow 2.15
    python scripts/make_tf_checkpoint.py --whole EFFICIENTDET_FOLDER OUT

The layout is that of google/automl's published efficientdet-d0.tar.gz: the files checkpoint, model.index and
model.data-00000-of-00001 in a folder, tensors under their variables' names with averages and momentum beside them.
With --whole, OUT gets a whole D0 with the names that automl's own code gives, for a check of the whole way.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from make_layout_fixtures import GOLDEN, seeded_array

SMALL = {
    "efficientnet-b0/stem/conv2d/kernel": (3, 3, 3, 4),
    "efficientnet-b0/stem/tpu_batch_normalization/moving_variance": (4,),
    "fpn_cells/cell_0/fnode0/WSM": (),
    "fpn_cells/cell_0/fnode0/WSM_1": (),
    "resample_p6/bn/gamma": (8,),
    "class_net/class-predict/pointwise_kernel": (1, 1, 4, 18),
    "box_net/box-predict/bias": (36,),
}


def save(shapes: dict[str, tuple[int, ...]], folder: Path) -> dict[str, np.ndarray]:
    """Save a checkpoint with plain and averaged weights, momentum and step; return what TensorFlow reads back."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [
            v1.Variable(np.int64(1234), name="global_step"),
            v1.Variable(np.float32(0.1), name="learning_rate"),
        ]
        for name, shape in shapes.items():
            for suffix in ("", "/ExponentialMovingAverage", "/Momentum"):
                variables.append(v1.Variable(seeded_array(name + suffix, shape), name=name + suffix))
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


def names_of_automl(sources: str) -> dict[str, tuple[int, ...]]:
    """Return the variables of automl's D0 by its own code."""
    sys.path.insert(0, sources)
    import hparams_config
    from tf2 import efficientdet_keras

    config: Any = hparams_config.get_efficientdet_config("efficientdet-d0")
    config.is_training_bn = False
    model = efficientdet_keras.EfficientDetNet(config=config)
    model.build((1, 128, 128, 3))
    return {weight.name.removesuffix(":0"): tuple(weight.shape) for weight in model.weights}


def main() -> None:
    """Write the archive, and the arrays that TensorFlow restores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", nargs=2, metavar=("SOURCES", "OUT"))
    args = parser.parse_args()
    shapes = names_of_automl(args.whole[0]) if args.whole else SMALL
    stem = Path(args.whole[1]) / "efficientdet-d0" if args.whole else GOLDEN / "tf_checkpoint"
    with tempfile.TemporaryDirectory() as folder:
        restored = save(shapes, Path(folder))
        with tarfile.open(f"{stem}.tar.gz", "w:gz") as archive:
            archive.add(folder, "efficientdet-d0")
    np.savez_compressed(f"{stem}.npz", **restored)
    if not args.whole:
        with tempfile.TemporaryDirectory() as folder:
            averages = save_by_object(SMALL, Path(folder))
            with tarfile.open(GOLDEN / "tf_object_checkpoint.tar.gz", "w:gz") as archive:
                archive.add(folder, "model")
        np.savez_compressed(GOLDEN / "tf_object_checkpoint.npz", **averages)


if __name__ == "__main__":
    main()
