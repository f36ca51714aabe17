"""Read the arrays of a Keras 2 weight file (HDF5). No code of the file runs, and no link out of it is followed.

Sizes are bounded before anything is read: HDF5 files can claim terabytes in a few bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.errors import CheckpointError, require

MAX_BYTES = 1 << 30  # D7x, the largest model, has 0.31 GB
MAX_ARRAYS = 20_000  # D7x has 1902
MAX_DEPTH = 16  # groups in groups; hard links can form rings
OPTIMIZER = "optimizer_weights"  # Keras's group beside the model's
KERAS_3 = "vars"  # the group that holds a layer's arrays in .keras and .weights.h5 files
NOT_WHOLE = (  # seen with TensorFlow 2.15 and automl's code: 589 of D0's 709 arrays (docs/checkpoints.md)
    "which lacks the batch norms of an EfficientDet's heads, because Keras leaves out layers in lists of lists: save "
    "all weights where it was trained, by TensorFlow's Keras 2 (TF_USE_LEGACY_KERAS=1, model.save_weights('FILE.h5'))"
)


def arrays_from_h5(path: Path) -> dict[str, np.ndarray]:
    """Return path in the file -> float32 array, without the optimizer's; raises CheckpointError in one line."""
    h5py = require("h5py", "a .h5 checkpoint")
    try:
        with h5py.File(path, "r") as file:
            datasets: dict[str, Any] = {}
            _collect(h5py, file, "", datasets, path)
            if any(KERAS_3 in name.split("/")[:-1] for name in datasets):
                raise CheckpointError(f"{path} is in the layout of Keras 3, {NOT_WHOLE}.")
            claimed = sum(math.prod(data.shape) * data.dtype.itemsize for data in datasets.values())
            if claimed > MAX_BYTES:
                raise CheckpointError(
                    f"{path} claims {claimed} bytes of arrays, but at most {MAX_BYTES} are expected: this is no "
                    "EfficientDet."
                )
            return {name: np.asarray(data[()], np.float32) for name, data in datasets.items()}
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or no HDF5 file ({reason}): copy or save it again.") from None


def _collect(h5py: Any, group: Any, prefix: str, datasets: dict[str, Any], path: Path) -> None:
    """Add the group's datasets to ``datasets`` under their paths."""
    if prefix.count("/") > MAX_DEPTH:
        raise CheckpointError(
            f"{path} nests its groups deeper than {MAX_DEPTH}, which Keras never does: this is no weight file of Keras."
        )
    for key in group:
        if not prefix and key == OPTIMIZER:
            continue
        name = f"{prefix}{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path} points outside itself at {name}: such files are not read.")
        item = group[key]
        if isinstance(item, h5py.Group):
            _collect(h5py, item, f"{name}/", datasets, path)
            continue
        if not isinstance(item, h5py.Dataset) or item.dtype.kind != "f" or item.shape is None:
            raise CheckpointError(f"{path}: {name} holds no floating-point numbers: this is no weight file of Keras.")
        if item.external or item.is_virtual:
            raise CheckpointError(f"{path} keeps {name} in another file: such files are not read.")
        datasets[name] = item
        if len(datasets) > MAX_ARRAYS:
            raise CheckpointError(f"{path} holds more than {MAX_ARRAYS} arrays: this is no EfficientDet.")
