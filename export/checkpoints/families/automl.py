"""Weights of google/automl (TF2 Keras), D0-D7x and Lite0-4, renamed and transposed into the canonical layout.

Read from its tf2/efficientdet_keras.py, backbone/efficientnet_model.py and hparams_config.py, and run against them
(docs/checkpoints.md):
- kernels are HWIO, depthwise ones (H, W, C, 1); both become OIHW. Fusion weights are scalars WSM, WSM_1, ... a node;
- box code order (ty tx th tw), anchor order, BatchNorm epsilons and SAME padding are the canonical ones;
- aspect ratios are exact square roots; Lite models normalise with mean 127 and std 128;
- pictures are normalised, then padded with 0 right and below: the fill is the mean colour;
- training saves the averaged (EMA) weights under the plain names, so a ``.h5`` has nothing else to choose from.
What hparams may override beside (activation, ratios, size) leaves no trace in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import EXACT_RATIOS, Converted, count, list_block_paths
from edgedet.specs import SPECS

LITE_NORMALISATION = {  # hparams_config.py, lite_common_param
    "mean_rgb": (127 / 255,) * 3,
    "std_rgb": (128 / 255,) * 3,
    "fill_rgb": (127, 127, 127),
}

# What stands before a name depends on the model's own name and on Keras; the numbers taken out here count layers of the
# whole process or of the cell, and say nothing that the rest of the name does not.
_SIMPLER = (
    (re.compile(r"^.*(?=(?:efficientnet-\w+|fpn_cells|resample_p6|class_net|box_net)/)"), ""),
    (re.compile(r"^efficientnet-\w+/"), "backbone/"),
    (re.compile(r"^backbone/stem(_\d+)?/conv2d(_\d+)?/"), "backbone/stem/conv/"),
    (re.compile(r"^backbone/stem(_\d+)?/\w*batch_normalization(_\d+)?/"), "backbone/stem/bn/"),
    (re.compile(r"/op_after_combine\d+/"), "/op_after_combine/"),
    (re.compile(r"/resample_\d+_(\d+)_\d+/"), r"/resample_\1/"),
    (re.compile(r":0$"), ""),
)
_WSM = re.compile(r"fpn_cells/cell_(\d+)/fnode(\d+)/WSM(?:_(\d+))?")
_FIRST_STAGE = {
    "depthwise_conv2d": "conv_dw",
    "tpu_batch_normalization": "bn1",
    "conv2d": "conv_pw",
    "tpu_batch_normalization_1": "bn2",
}
_LATER_STAGES = {
    "conv2d": "conv_pw",
    "tpu_batch_normalization": "bn1",
    "depthwise_conv2d": "conv_dw",
    "tpu_batch_normalization_1": "bn2",
    "conv2d_1": "conv_pwl",
    "tpu_batch_normalization_2": "bn3",
}
_SE = {"se/conv2d": "se.conv_reduce", "se/conv2d_1": "se.conv_expand"}


def simplify_name(name: str) -> str:
    """Take out of a Keras weight's name what differs from file to file."""
    for pattern, replacement in _SIMPLER:
        name = pattern.sub(replacement, name)
    return name


def recognises(names: Iterable[str]) -> bool:
    """Return whether these are the names of an automl Keras model."""
    return any(simplify_name(name) == "class_net/class-predict/pointwise_kernel" for name in names)


def canonical_from_automl(arrays: Mapping[str, np.ndarray]) -> Converted:
    """Rename and transpose the arrays of a Keras weight file (names as paths in the file).

    Raises CheckpointError where the backbone is no EfficientNet.
    """
    simple = {simplify_name(name): array for name, array in arrays.items()}
    if len(simple) != len(arrays):
        raise CheckpointError(
            f"{len(arrays) - len(simple)} tensors have the name of another one, so the file holds two models: save "
            "one of them alone."
        )
    table = dict(_tensors(simple))
    state = {table.get(name, name): _oihw(name, array) for name, array in simple.items() if not _WSM.fullmatch(name)}
    fusion: dict[str, dict[int, np.ndarray]] = {}
    for match in filter(None, map(_WSM.fullmatch, simple)):
        node = f"fpn.cell.{match[1]}.fnode.{match[2]}.combine.edge_weights"
        fusion.setdefault(node, {})[int(match[3] or 0)] = simple[match[0]]
    state.update({node: np.stack([parts[key] for key in sorted(parts)]) for node, parts in fusion.items()})
    lite = any("efficientnet-lite" in name for name in arrays)
    changes = {"family": "automl", "aspect_ratios": EXACT_RATIOS, **(LITE_NORMALISATION if lite else {})}
    models = tuple(
        name for name in SPECS if name.startswith("tf_") and ("_lite" in name) == lite and not name.endswith("_ap")
    )
    return Converted(state, changes, models)


def _oihw(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 4:
        return array
    axes = (2, 3, 0, 1) if name.endswith("depthwise_kernel") else (3, 2, 0, 1)
    return np.ascontiguousarray(array.transpose(axes))


def _tensors(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (automl's simplified name, canonical name) of every tensor but the fusion weights."""
    yield from _conv("backbone/stem/conv", "backbone.conv_stem")
    yield from _norm("backbone/stem/bn", "backbone.bn1")
    for number, path in enumerate(list_block_paths(count(names, r"backbone/blocks_(\d+)/"))):
        source, target = f"backbone/blocks_{number}", f"backbone.blocks.{path}"
        for part, canonical in (_FIRST_STAGE if path.startswith("0.") else _LATER_STAGES).items():
            pairs = _norm if "normalization" in part else _conv
            yield from pairs(f"{source}/{part}", f"{target}.{canonical}")
        for part, canonical in _SE.items():
            yield from _conv(f"{source}/{part}", f"{target}.{canonical}")
    yield from _lateral("resample_p6", "fpn.resample.3")
    for cell in range(count(names, r"fpn_cells/cell_(\d+)/")):
        for number in range(count(names, r"fpn_cells/cell_\d+/fnode(\d+)/")):
            source, target = f"fpn_cells/cell_{cell}/fnode{number}", f"fpn.cell.{cell}.fnode.{number}"
            yield from _separable(f"{source}/op_after_combine/conv", f"{target}.after_combine.conv")
            yield from _norm(f"{source}/op_after_combine/bn", f"{target}.after_combine.conv.bn")
            for backbone_level in range(3):  # P3, P4, P5 enter the first cell with their own width
                lateral = f"{target}.combine.resample.{backbone_level}"
                yield from _lateral(f"{source}/resample_{backbone_level}", lateral)
    repeats, levels = count(names, r"class_net/class-(\d+)/"), count(names, r"class_net/class-0-bn-(\d+)/")
    for head in ("class", "box"):
        yield from _separable(f"{head}_net/{head}-predict", f"{head}_net.predict")
        for repeat in range(repeats):
            yield from _separable(f"{head}_net/{head}-{repeat}", f"{head}_net.conv_rep.{repeat}")
            for level in range(3, levels):
                yield from _norm(f"{head}_net/{head}-{repeat}-bn-{level}", f"{head}_net.bn_rep.{repeat}.{level - 3}.bn")


def _norm(source: str, target: str) -> Iterator[tuple[str, str]]:
    leaves = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for leaf, canonical in leaves.items():
        yield f"{source}/{leaf}", f"{target}.{canonical}"


def _conv(source: str, target: str) -> Iterator[tuple[str, str]]:
    for leaf, canonical in {"kernel": "weight", "depthwise_kernel": "weight", "bias": "bias"}.items():
        yield f"{source}/{leaf}", f"{target}.{canonical}"


def _separable(source: str, target: str) -> Iterator[tuple[str, str]]:
    leaves = {"depthwise_kernel": "conv_dw.weight", "pointwise_kernel": "conv_pw.weight", "bias": "conv_pw.bias"}
    for leaf, canonical in leaves.items():
        yield f"{source}/{leaf}", f"{target}.{canonical}"


def _lateral(source: str, target: str) -> Iterator[tuple[str, str]]:
    yield from _conv(f"{source}/conv2d", f"{target}.conv.conv")
    yield from _norm(f"{source}/bn", f"{target}.conv.bn")
