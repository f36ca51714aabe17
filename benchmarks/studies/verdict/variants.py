"""The INT8 files of the study: good ones, made as the export makes them, and ones spoilt in known ways and degrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.plan import (
    DensePlan,
    QuantisedConv,
    SparsePlan,
    make_dense_plan,
    make_sparse_plan,
)
from edgedet.calibration.quantise import KEEP_FLOAT, RECOVERY_FRAMES, Quantised
from edgedet.calibration.ranges.choose import table_from_observed
from edgedet.calibration.ranges.observe import observe
from edgedet.calibration.ranges.refine import refine_ranges
from edgedet.calibration.recovery.reconstruct import reconstruct_weights
from edgedet.calibration.recovery.recover import correct_biases, equalise
from edgedet.export.int8.centre import Centring
from edgedet.export.int8.files import SPARSE, TFLITE
from edgedet.export.int8.workers import open_here
from edgedet.types import ModelInput

Convs = Mapping[str, QuantisedConv]
BROKEN = (
    "backbone.blocks.1.0.conv_pw",
    "backbone.blocks.4.1.conv_pwl",
    "backbone.blocks.5.2.conv_pw",
    "backbone.blocks.2.1.conv_dw",
    "backbone.blocks.3.1.conv_pw",
    "class_net.conv_rep.1.conv_pw",
    "box_net.conv_rep.0.conv_pw",
    "backbone.blocks.6.0.conv_pwl",
)


@dataclass(frozen=True)
class Variant:
    """How one INT8 file is made.

    placement: "dense" (.tflite) or "sparse" (.onnx).
    frames:    calibration frames, from the ``seed``-th on; negative: of the other data set.
    recovery, observer, refine: as in ``quantise``.
    spoil:     changes the convolutions afterwards; None leaves them.
    """

    name: str
    placement: str = "dense"
    frames: int = 16
    seed: int = 0
    recovery: str = "fast"
    observer: str = "mixed"
    refine: bool = False
    spoil: Callable[[Convs], dict[str, QuantisedConv]] | None = None
    keep_float: tuple[str, ...] = KEEP_FLOAT


def variants_of(index: int) -> Iterator[Variant]:
    """Yield the files of the ``index``-th scene; scenes differ in degrees, so that AP kept spreads evenly."""
    box = (0.02, 0.05, 0.1, 0.03, 0.15, 0.07)[index]
    shift = (6.0, 1.0, 2.0, 0.5, 6.0, 2.0)[index]
    bits, mild = (2, 3, 3, 2, 4, 3)[index], (5, 4, 5, 4, 6, 5)[index]
    grey, faint = (20.0, 12.0, 40.0, 25.0, 30.0, 10.0)[index], (2.0, 3.0, 1.0, 4.0, 2.0, 1.0)[index]
    layer, other_layer = BROKEN[index], BROKEN[index - 3]
    yield Variant("fast, 16 frames")
    yield Variant("extremes, 8 frames", frames=8, recovery="none", observer="minmax")
    yield Variant(f"box scale +{box:.0%}", spoil=partial(_scaled_boxes, growth=box))
    yield Variant(f"a class {shift:g} logits lower", spoil=partial(_lower_class, shift=shift))
    yield Variant(f"a layer of {bits} bits", spoil=partial(_coarse_layer, layer=layer, bits=bits))
    yield Variant(f"mean off by {grey:g} grey levels", spoil=partial(_shifted_mean, grey=grey))
    yield Variant(f"another layer of {mild} bits", spoil=partial(_coarse_layer, layer=other_layer, bits=mild))
    yield Variant(f"mean off by {faint:g} grey levels", spoil=partial(_shifted_mean, grey=faint))
    yield Variant("box scale -4%", spoil=partial(_scaled_boxes, growth=-0.04))
    yield Variant("fast, 4 frames", frames=4, seed=20)
    yield Variant("fast, refined, 8 frames", frames=8, seed=30, refine=True)
    yield Variant("ranges of another scene", frames=-8)
    yield Variant("percentile, 8 frames", frames=8, observer="percentile", recovery="none")
    yield Variant("full, 16 frames", seed=8, recovery="full")
    yield Variant("recovery none, 16 frames", recovery="none", seed=8)
    yield Variant("TensorRT's, fast", "sparse", frames=8)
    yield Variant("TensorRT's, extremes, all layers", "sparse", 8, 0, "none", "minmax", keep_float=())
    wider = (0.05, 0.03, 0.02, 0.05, 0.04, 0.03)[index]
    yield Variant(f"TensorRT's, box scale +{wider:.0%}", "sparse", 8, spoil=partial(_scaled_boxes, growth=wider))
    one_class = index in (1, 3)  # street
    spoil = partial(_coarse_layer, layer=BROKEN[0], bits=3) if one_class else partial(_lower_class, shift=6.0)
    yield Variant(f"TensorRT's, {'a layer of 3 bits' if one_class else 'dead class'}", "sparse", 8, spoil=spoil)
    yield Variant("fast, 32 frames", frames=32)


class Maker:
    """Makes one scene's files; what was observed once serves every file of the same frames."""

    def __init__(
        self,
        float_path: Path,
        model: onnx.ModelProto,
        meta: ArtifactMeta,
        frames: list[ModelInput],
        others: list[ModelInput],
    ) -> None:
        """float_path, model, meta: the scene's float model; frames: of the scene; others: of the other data set."""
        self._float_path, self._model, self._meta, self._frames, self._others = float_path, model, meta, frames, others
        self._made: dict[Variant, Quantised] = {}

    def make(self, variant: Variant) -> Quantised:
        """Return the quantised model of a variant."""
        sound = replace(variant, name="", spoil=None)
        if sound not in self._made:
            self._made[sound] = self._quantised(sound)
        made = self._made[sound]
        if variant.spoil is None:
            return made
        if variant.placement == "dense":
            return replace(made, dense=replace(made.dense, convs=variant.spoil(made.dense.convs)))
        return replace(made, sparse=replace(made.sparse, convs=variant.spoil(made.sparse.convs)))

    def _quantised(self, variant: Variant) -> Quantised:
        source = self._others if variant.frames < 0 else self._frames
        frames = source[variant.seed : variant.seed + abs(variant.frames)]
        pixels = [frame.pixels for frame in frames]
        batch = np.concatenate(pixels[:: max(1, len(pixels) // RECOVERY_FRAMES)][:RECOVERY_FRAMES])
        model = self._model if variant.recovery == "none" else equalise(self._model, batch)
        executor, spec = Executor(model), self._meta.spec
        table = table_from_observed(executor, *observe(executor, pixels), "", variant.observer)
        if variant.refine:
            plans = make_dense_plan(model, spec, table), make_sparse_plan(model, table, variant.keep_float)
            table = refine_ranges(executor, table, *plans, pixels)
        dense, sparse = make_dense_plan(model, spec, table), make_sparse_plan(model, table, variant.keep_float)
        if variant.recovery == "none":
            return Quantised(model, table, dense, sparse, {})
        recover = {"fast": correct_biases, "full": reconstruct_weights}[variant.recovery]
        if variant.placement == "dense":
            dense = cast(DensePlan, recover(executor, dense, batch))
        else:
            sparse = cast(SparsePlan, recover(executor, sparse, batch))
        return self._centred(Quantised(model, table, dense, sparse, {}), variant.placement, frames)

    def _centred(self, quantised: Quantised, placement: str, frames: list[ModelInput]) -> Quantised:
        open_detector = partial(open_here, threads=1, shows_progress=False)
        with closing(open_detector(self._float_path)) as float_detector:
            centring = Centring(float_detector, self._meta, frames, open_detector)
            return centring.centre(quantised, TFLITE if placement == "dense" else SPARSE)[0]


def _scaled_boxes(convs: Convs, growth: float) -> dict[str, QuantisedConv]:
    """Boxes grow on both sides: ln(1 + growth) on the codes th and tw."""
    result = dict(convs)
    for name, q in convs.items():
        if name.startswith("box_net.predict.conv_pw"):
            bias = np.zeros(len(q.scales), np.float32) if q.bias is None else q.bias.copy()
            bias.reshape(-1, 4)[:, 2:] += np.float32(np.log1p(growth))
            result[name] = replace(q, bias=bias)
    return result


def _lower_class(convs: Convs, shift: float) -> dict[str, QuantisedConv]:
    """The first class's logits sink; with 6 it is dead."""
    result = dict(convs)
    for name, q in convs.items():
        if name.startswith("class_net.predict.conv_pw") and q.bias is not None:
            bias = q.bias.copy()
            bias.reshape(9, -1)[:, 0] -= np.float32(shift)
            result[name] = replace(q, bias=bias)
    return result


def _coarse_layer(convs: Convs, layer: str, bits: int) -> dict[str, QuantisedConv]:
    """One layer's weights have fewer bits."""
    steps = 2 ** (8 - bits)
    result = dict(convs)
    names = [name for name in convs if name == layer or name.startswith(f"{layer}.")]
    for name in names:
        q = convs[name]
        coarse = np.clip(np.rint(q.weight / steps) * steps, -127, 127).astype(np.int8)
        result[name] = replace(q, weight=coarse)
    return result


def _shifted_mean(convs: Convs, grey: float) -> dict[str, QuantisedConv]:
    """As if another mean were subtracted: the stem sees every pixel brighter."""
    result = dict(convs)
    name = next(name for name in convs if name.startswith("backbone.conv_stem"))
    q = convs[name]
    moved = (q.weight * q.scales[:, None, None, None].astype(np.float64)).sum((1, 2, 3)) * grey
    bias = moved if q.bias is None else q.bias + moved
    result[name] = replace(q, bias=bias.astype(np.float32))
    return result
