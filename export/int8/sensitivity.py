"""How much each layer of a float ONNX file costs when it alone is INT8: files and frames to a sorted list of losses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet import demo
from edgedet.errors import InputError
from edgedet.postprocess import DEFAULT_SCORE
from edgedet.progress import Say

if TYPE_CHECKING:
    from edgedet.calibration.recovery.sensitivity import LayerLoss


@dataclass(frozen=True)
class SensitivityOptions:
    """What is measured.

    model:   float ONNX file that edgedet wrote.
    calib:   source of frames; None: the demo's clip for the demo, else scikit-image's photographs.
    frames:  number of them.
    passes:  frames that every layer is measured on.
    worst:   layers that are also verified on detections, at ``score``.
    """

    model: Path
    calib: str | None = None
    frames: int = 64
    passes: int = 4
    worst: int = 10
    score: float = DEFAULT_SCORE
    threads: int = 1


@dataclass(frozen=True)
class Sensitivity:
    """Every layer's loss, the worst first; the first ``verified`` of them on detections in ``frames`` frames, too."""

    losses: list[LayerLoss]
    verified: int
    frames: int


def measure_sensitivity(options: SensitivityOptions, say: Say) -> Sensitivity:
    """Quantise the network, and measure one layer after the other.

    say: takes a line for each step and for each thing that one should know of the frames.
    Raises InputError for a file that is no float model of edgedet's and for too few frames.
    """
    import torch

    from edgedet.calibration.graph.macs import count_conv_macs
    from edgedet.calibration.quantise import quantise
    from edgedet.calibration.ranges.frames import take_calibration_frames
    from edgedet.calibration.recovery.sensitivity import LayerQuantiser, measure_layer_losses, verify_on_detections
    from edgedet.export.checkpoints.checkpoint import load_checkpoint
    from edgedet.export.int8.export_int8 import read_float_model

    torch.set_num_threads(options.threads)
    model, meta = read_float_model(options.model)
    is_demo = options.calib is None and meta.source_sha256 == load_checkpoint(demo.WEIGHTS).sha256
    frames = take_calibration_frames(options.calib, meta.spec, options.frames, is_demo=is_demo)
    for line in frames.notes:
        say(f"edgedet: {line}")
    if not frames.select:
        raise InputError(f"{frames.source} gave too few frames to calibrate and to measure on; give 4 or more.")
    pixels = [frame.pixels for frame in frames.calibrate]
    quantised = quantise(model, meta.spec, pixels, meta.source_sha256, say=say)
    macs = count_conv_macs(quantised.model)
    shares = {layer: count / sum(macs.values()) for layer, count in macs.items()}
    layers = LayerQuantiser(quantised.model, meta, quantised.dense)
    measured = frames.select[:: max(1, len(frames.select) // options.passes)][: options.passes]
    losses = measure_layer_losses(layers, measured, shares)
    worst = verify_on_detections(layers, frames.select, losses[: options.worst], options.score)
    return Sensitivity([*worst, *losses[options.worst :]], len(worst), len(frames.select))
