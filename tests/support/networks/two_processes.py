"""Steps of a training in float64, alone and shared out among processes; runs in processes that a test starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from training_sets import TINY, picture

from edgedet.anchors import anchors_for
from edgedet.training.fit import FitOptions, FromPixels, take_step
from edgedet.training.optimise import make_optimiser
from edgedet.training.processes import Processes, share_norms
from edgedet.training.samples import Batch
from edgedet.training.start import make_fresh_network

PICTURES, STEPS = 4, 2


class Exact(FromPixels):
    """The network in float64, so that two orders of summation differ by 1e-11 and not by 1e-2."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rgb = pixels.flip(3).permute(0, 3, 1, 2).double() / 255
        return self.network((rgb - self.mean) / self.std)


def train_some_steps(rank: int, count: int, folder: str) -> None:
    """Take STEPS steps with this process's share of the pictures; the first process saves all gradients."""
    torch.set_num_threads(1)
    if count > 1:
        store = dist.FileStore(f"{folder}/store", count)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    torch.manual_seed(0)
    model = Exact(make_fresh_network(TINY)).train().double()
    if count > 1:
        share_norms(model)
    trained = DistributedDataParallel(model) if count > 1 else model
    optimiser = make_optimiser(model, "sgd", 1e-3)
    anchors, group = torch.from_numpy(anchors_for(TINY)), Processes(rank, count, torch.device("cpu"))
    share = slice(rank * PICTURES // count, (rank + 1) * PICTURES // count)
    gradients = []
    for _ in range(STEPS):
        batch, scaler = make_batch(share), torch.amp.GradScaler(enabled=False)
        take_step(trained, batch, anchors, FitOptions(1), group, optimiser, scaler, None)
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
    if rank == 0:
        torch.save({"gradients": gradients, "state": model.state_dict()}, Path(folder) / f"{count}.pt")
    if count > 1:
        dist.destroy_process_group()


def make_batch(share: slice) -> Batch:
    """Some of the PICTURES, each with its label."""
    random = np.random.default_rng(0)
    made = [picture(random, TINY.input_hw) for _ in range(PICTURES)][share]
    boxes = [torch.tensor([[x, y, x + w, y + h]]).float() for _, (x, y, w, h), _ in made]
    pixels = torch.stack([torch.from_numpy(bgr) for bgr, _, _ in made])
    labels = [(box, torch.tensor(kind), torch.ones(1)) for box, (_, _, kind) in zip(boxes, made, strict=True)]
    return Batch(pixels, labels)
