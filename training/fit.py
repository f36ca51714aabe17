"""The loop of a training: epochs of steps, each epoch validated, saved and reported."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edgedet.anchors import anchors_for
from edgedet.errors import EdgeDetError, InputError
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.progress import with_progress
from edgedet.specs import DetectorSpec
from edgedet.training.loss import BOX_WEIGHT, compute_loss
from edgedet.training.optimise import BATCH, RATES, average_weights, make_optimiser, make_schedule
from edgedet.training.processes import Processes, sum_over, wait
from edgedet.training.samples import Batch, Order, Pictures, make_loader
from edgedet.training.state import Saved, load_state, save_state
from edgedet.training.targets import make_targets

STATE = "state.pt"
SAVE_EVERY_S = 300.0  # within long epochs, so that little is lost
Row = dict[str, "float | None"]


@dataclass(frozen=True)
class FitOptions:
    """How a model is trained.

    batch:     pictures of a step, in each process.
    rate:      full learning rate; None: that of the optimiser in ``RATES``, in proportion to the pictures of a step.
    clip:      largest norm of the gradient; 0: any.
    amp:       compute convolutions in half precision: bfloat16 on a CPU, float16 on a GPU.
    frozen:    parts that are not trained: "backbone", "norms" (statistics of BatchNorms stay as they are).
    workers:   processes that read pictures ahead.
    resume:    go on from the state in the folder.
    settings:  more that must be the same when a training goes on.
    """

    epochs: int
    batch: int = BATCH
    optimiser: str = "adamw"
    rate: float | None = None
    clip: float = 10.0
    amp: bool = False
    frozen: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 0
    resume: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class FromPixels(nn.Module):
    """A network that takes the camera's bytes."""

    def __init__(self, network: EfficientDet) -> None:
        """Mean and deviation are those of the network's spec."""
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", network.spec.mean_rgb), ("std", network.spec.std_rgb)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) uint8 BGR -> class logits (N, A, C), box codes (N, A, 4)."""
        rgb = pixels.flip(3).permute(0, 3, 1, 2).float() / 255
        return self.network((rgb - self.mean) / self.std)


MoreLoss = Callable[[Batch, Tensor, Tensor], Tensor]
Judge = Callable[[nn.Module, int], Row]


def fit(
    model: nn.Module,
    spec: DetectorSpec,
    pictures: Pictures,
    options: FitOptions,
    group: Processes,
    out: Path,
    judge: Judge,
    report: Callable[[list[Row], float], None],
    more_loss: MoreLoss | None = None,
) -> nn.Module:
    """Train a model that takes pixels and gives logits and codes; return its averaged weights.

    judge:     called by the first process after each epoch with the averaged model and the epoch's number; returns the
               figures of a row, and keeps what it wants to keep.
    report:    called by the first process with all rows and the seconds that are left, also when a training goes on.
    more_loss: a further loss of a batch, its logits and its codes; of a teacher.
    Raises InputError where the loss is no number any more, or where the state to go on from is another training's.
    """
    if options.batch == 1 and "norms" not in options.frozen and (1, 1) in spec.level_sizes():
        raise InputError(
            f"a BatchNorm needs two values, and of {spec.input_hw[0]}x{spec.input_hw[1]} pixels the coarsest level has "
            "one: train with --batch 2, a larger --size, or --freeze norms."
        )
    model.to(group.device)
    freeze(model, options.frozen)
    order = Order(len(pictures), options.batch, options.seed, group.rank, group.count)
    rate = options.rate or RATES[options.optimiser] * options.batch * group.count / BATCH
    optimiser = make_optimiser(model, options.optimiser, rate)
    schedule = make_schedule(optimiser, options.epochs * len(order))
    mean = average_weights(model)
    scaler = torch.amp.GradScaler(enabled=options.amp and group.device.type == "cuda")
    parts: dict[str, Any] = {
        "model": model,
        "averaged": mean,
        "optimiser": optimiser,
        "schedule": schedule,
        "scaler": scaler,
    }
    settings = {
        "epochs": options.epochs,
        "batch": options.batch * group.count,
        "seed": options.seed,
        "optimiser": options.optimiser,
        "rate": rate,
        "frozen": list(options.frozen),
        **options.settings,
    }
    history: list[Row] = []
    first_epoch, first_step, sums = 0, 0, dict.fromkeys(("class_loss", "box_loss", "seconds"), 0.0)
    if options.resume:
        saved = load_state(out / STATE, settings)
        for name, part in parts.items():
            part.load_state_dict(saved.parts[name])
        first_epoch, first_step, history, sums = saved.epoch, saved.step, saved.history, saved.sums
        if group.is_first and history:
            report(history, _seconds_of_epoch(history) * (options.epochs - first_epoch))
    anchors = torch.from_numpy(anchors_for(spec)).to(group.device)
    trained: nn.Module = model
    if group.count > 1:
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of depthwise weights, at no cost on a CPU
        trained = DistributedDataParallel(model)
    loader = make_loader(pictures, order, options.workers)

    def save(epoch: int, step: int) -> None:
        if group.is_first:
            states = {name: part.state_dict() for name, part in parts.items()}
            save_state(Saved(epoch, step, states, history, settings, sums), out / STATE)

    for epoch in range(first_epoch, options.epochs):
        order.epoch, order.first = epoch, first_step
        trained.train()
        freeze(model, options.frozen)
        started = saved_at = time.monotonic()
        batches = with_progress(loader, f"epoch {epoch + 1}/{options.epochs}", "step") if group.is_first else loader
        for step, batch in enumerate(batches, start=first_step):
            if isinstance(batch, EdgeDetError):
                try:
                    raise batch
                finally:  # an error that holds itself, by its traceback, would keep the loader's processes
                    del batch
            losses = take_step(trained, batch, anchors, options, group, optimiser, scaler, more_loss)
            schedule.step()
            mean.update_parameters(model)
            for name, value in zip(("class_loss", "box_loss"), losses, strict=True):
                sums[name] += value
            if time.monotonic() - saved_at > SAVE_EVERY_S and step + 1 < len(order):
                sums["seconds"] += time.monotonic() - started
                started = saved_at = time.monotonic()
                save(epoch, step + 1)
        sums["seconds"] += time.monotonic() - started
        if group.is_first:
            steps = len(order)
            losses = sums["class_loss"] / steps, sums["box_loss"] / steps
            row: Row = {
                "epoch": epoch + 1,
                "rate": float(schedule.get_last_lr()[0]),
                "loss": losses[0] + BOX_WEIGHT * losses[1],
                "class_loss": losses[0],
                "box_loss": losses[1],
                "seconds": sums["seconds"],
            }
            started = time.monotonic()
            row |= judge(mean.module, epoch + 1)
            row["judged_seconds"] = time.monotonic() - started
            history.append(row)
        first_step, sums = 0, dict.fromkeys(sums, 0.0)
        save(epoch + 1, 0)
        if group.is_first:
            report(history, _seconds_of_epoch(history) * (options.epochs - epoch - 1))
        wait(group)
    return mean.module


def _seconds_of_epoch(history: list[Row]) -> float:
    return sum(float(row["seconds"] or 0) + float(row["judged_seconds"] or 0) for row in history) / len(history)


def take_step(
    model: nn.Module,
    batch: Batch,
    anchors: Tensor,
    options: FitOptions,
    group: Processes,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    more_loss: MoreLoss | None,
) -> tuple[float, float]:
    """Take one step; return the class loss and the box loss of all processes' pictures."""
    device = group.device
    targets = make_targets(anchors, [tuple(part.to(device) for part in label) for label in batch.labels])  # type: ignore[misc]
    pixels = batch.pixels.to(device)
    with _choose_precision(options.amp, device):
        logits, codes = model(pixels)
    positives = sum_over(targets.positives, group)
    class_loss, box_loss = compute_loss(logits, codes, targets, positives)
    loss = class_loss + BOX_WEIGHT * box_loss
    if more_loss is not None:
        loss = loss + more_loss(Batch(pixels, batch.labels), logits.float(), codes.float()) / group.count
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss * group.count).backward()  # gradients are averaged over processes; losses are shares of one sum
    if options.clip:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], options.clip)
    scaler.step(optimiser)
    scaler.update()
    summed = sum_over(torch.stack([class_loss.detach(), box_loss.detach()]), group)
    if not bool(torch.isfinite(summed).all()):
        raise InputError("the loss is no number any more: train with a lower --lr, or without --amp.")
    return float(summed[0]), float(summed[1])


def _choose_precision(amp: bool, device: torch.device) -> AbstractContextManager[Any]:
    if not amp:
        return nullcontext()
    return torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16)


FROZEN = ("backbone", "norms")


def freeze(model: nn.Module, frozen: Sequence[str]) -> None:
    """Keep parts of a model as they are: "backbone", weights and statistics; "norms", the statistics of all."""
    backbone = [m for name, m in model.named_modules() if name.endswith("backbone")] if "backbone" in frozen else []
    for module in backbone:
        module.requires_grad_(False)
        module.eval()
    if "norms" in frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
