"""The processes that train together, as torchrun starts them: who this one is, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgedet.errors import EdgeDetError, InputError

TIMEOUT = timedelta(hours=6)  # while the first process checks, validates and calibrates, the others wait


@dataclass(frozen=True)
class Processes:
    """rank: of this process, from 0; count: of all; device: that it trains on."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


@contextmanager
def join_processes(device: str | None) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one; leave them at the end.

    device: "cpu", "cuda" or "cuda:1"; None: a GPU where there is one.
    Raises InputError for a device that is not there, and in one line where another process failed.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and count > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"cannot train on --device {name}: {str(error).splitlines()[0]}.") from None
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"process {rank} of {count} cannot join the others ({str(error).splitlines()[0][:120]}): start them with "
            "torchrun, or leave WORLD_SIZE and RANK out of the environment."
        ) from None
    try:
        yield Processes(rank, count, chosen)
    except EdgeDetError:
        raise
    except (RuntimeError, ValueError) as error:
        if "connection" in str(error).lower() or isinstance(error, dist.DistBackendError):
            raise InputError(
                f"process {rank} of {count} lost another one ({str(error).splitlines()[0][:120]}): look for the first "
                "process that failed, then go on with --resume."
            ) from None
        raise
    finally:
        dist.destroy_process_group()


def sum_over(value: Tensor, group: Processes) -> Tensor:
    """Return the sum of a tensor over all processes; no gradient passes."""
    if group.count == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed


def wait(group: Processes) -> None:
    """Return when all processes are here."""
    if group.count > 1:
        dist.barrier()


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradient)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the pictures of all processes, on any backend.

    PyTorch's SyncBatchNorm computes the same, but on GPUs only ("expected input tensor to be on GPU"), and gloo's
    processes have none. Sums travel, of values and then of squares; each process has as many pictures.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same shape."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        count = x.numel() / x.shape[1] * dist.get_world_size()
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = _SumOverProcesses.apply(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, float(self.momentum or 0.0))
            self.running_var.lerp_(variance * count / max(count - 1, 1), float(self.momentum or 0.0))
        gain = self.weight * (variance + self.eps).rsqrt()
        return (centred * gain[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_norms(network: nn.Module) -> None:
    """Let every BatchNorm of a network see the pictures of all processes."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
