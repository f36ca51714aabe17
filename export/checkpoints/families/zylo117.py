"""Weights of zylo117/Yet-Another-EfficientDet-Pytorch (compound_coef 0-8; 8 is D7x), renamed into the canonical layout.

Read from its backbone.py, efficientdet/ and efficientnet/, and run against them (docs/checkpoints.md):
- tensors, box code order (ty tx th tw), anchor order, rounded ratios and BatchNorm epsilons are the canonical ones;
- convolutions pad as TensorFlow's SAME, but max-pools pad with zeros instead of ignoring the border;
- fusion weights are in the file but not used from compound_coef 6 on (plain sum);
- pictures are normalised with ImageNet's figures, then padded with 0 right and below: the fill is the mean colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgedet.export.checkpoints.families import Converted, count, list_block_paths, list_node_levels
from edgedet.specs import PHI

STEM = "backbone_net.model._conv_stem.conv.weight"
SUM_FUSION_CHANNELS = 384  # the BiFPN width of compound_coef 6, 7 and 8, which sum without weights

_SEPARABLE = {"depthwise_conv.conv": "conv_dw", "pointwise_conv.conv": "conv_pw"}
_SE = {"_se_reduce.conv": "se.conv_reduce", "_se_expand.conv": "se.conv_expand"}
_FIRST_STAGE = {
    "_depthwise_conv.conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv.conv": "conv_pw",
    "_bn2": "bn2",
    **_SE,
}
_LATER_STAGES = {
    "_expand_conv.conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv.conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv.conv": "conv_pwl",
    "_bn2": "bn3",
    **_SE,
}
_HEADS = {"regressor": "box_net", "classifier": "class_net"}


def recognises(names: Iterable[str]) -> bool:
    """Return whether these are the names of a zylo117 model."""
    return STEM in names


def canonical_from_zylo117(state: Mapping[str, Any]) -> Converted:
    """Rename a zylo117 state dict; raises CheckpointError where the backbone is no EfficientNet."""
    modules = dict(_modules(state))
    renamed = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        renamed[modules[name] if name in modules else f"{modules.get(module, module)}.{leaf}"] = value
    if state[STEM].shape and _width(state) == SUM_FUSION_CHANNELS:
        renamed = {name: value for name, value in renamed.items() if not name.endswith("edge_weights")}
    return Converted(renamed, {"family": "zylo117", "pool_padding": "zeros"}, tuple(PHI.values()))


def _width(state: Mapping[str, Any]) -> int:
    header = state.get("regressor.header.depthwise_conv.conv.weight")
    return 0 if header is None else int(header.shape[0])


def _modules(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (zylo117's name, canonical name) of every module, and of the fusion weights, which are no module's leaf."""
    yield "backbone_net.model._conv_stem.conv", "backbone.conv_stem"
    yield "backbone_net.model._bn0", "backbone.bn1"
    for number, path in enumerate(list_block_paths(count(names, r"backbone_net\.model\._blocks\.(\d+)\."))):
        for part, canonical in (_FIRST_STAGE if path.startswith("0.") else _LATER_STAGES).items():
            yield f"backbone_net.model._blocks.{number}.{part}", f"backbone.blocks.{path}.{canonical}"
    yield from _neck_modules(count(names, r"bifpn\.(\d+)\."), max_level=count(names, r"bifpn\.0\.conv(\d)_down\.") - 1)
    levels, repeats = count(names, r"regressor\.bn_list\.(\d+)\."), count(names, r"regressor\.conv_list\.(\d+)\.")
    for head, canonical_head in _HEADS.items():
        for part, canonical in _SEPARABLE.items():
            yield f"{head}.header.{part}", f"{canonical_head}.predict.{canonical}"
            for repeat in range(repeats):
                yield f"{head}.conv_list.{repeat}.{part}", f"{canonical_head}.conv_rep.{repeat}.{canonical}"
        for level in range(levels):
            for repeat in range(repeats):
                yield f"{head}.bn_list.{level}.{repeat}", f"{canonical_head}.bn_rep.{repeat}.{level}.bn"


def _neck_modules(cells: int, max_level: int) -> Iterator[tuple[str, str]]:
    laterals = {"p5_to_p6": "fpn.resample.3"}
    for number, (way, level) in enumerate(list_node_levels(max_level)):
        for cell in range(cells):
            node = f"fpn.cell.{cell}.fnode.{number}"
            yield f"bifpn.{cell}.p{level}_w{1 if way == 'up' else 2}", f"{node}.combine.edge_weights"
            for part, canonical in {**_SEPARABLE, "bn": "bn"}.items():
                yield f"bifpn.{cell}.conv{level}_{way}.{part}", f"{node}.after_combine.conv.{canonical}"
        if level <= 5:  # P3, P4 and P5 come from the backbone; its bottom-up inputs have convolutions of their own
            name = f"p{level}_down_channel" + ("" if way == "up" else "_2")
            laterals[name] = f"fpn.cell.0.fnode.{number}.combine.resample.{level - 3}"
    for name, owner in laterals.items():
        yield f"bifpn.0.{name}.0.conv", f"{owner}.conv.conv"
        yield f"bifpn.0.{name}.1", f"{owner}.conv.bn"
