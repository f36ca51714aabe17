"""The machine that a TensorRT engine belongs to: its GPU, its version of TensorRT and its system."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping

from ...errors import UnsupportedError, require
from ...machine import read_machine
from ..table import engine_named
from .cuda import Cuda

_MEMINFO = Path("/proc/meminfo")
_FIRST_WITH_INT8, _WITHOUT_INT8 = (6, 1), ((6, 2),)
SMALL_BYTES = 5 << 30  # Nano- and NX-sized boards with 4 GB: a full build would push other programs out of memory


@dataclass(frozen=True)
class Identity:
    """The GPU, TensorRT and system that an engine was built for. Under other ones it must not be used.

    tensorrt: version, as ``tensorrt.__version__``.
    gpu:      name.
    compute_capability: for example "8.7".
    system:   release of Jetson Linux, for example "R36.4.3"; "" elsewhere.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    system: str

    def to_dict(self) -> Dict[str, str]:
        """Return plain JSON values."""
        return dict(asdict(self))

    def line(self) -> str:
        """Return the identity as a line of text."""
        system = f", Jetson Linux {self.system}" if self.system else ""
        return f"TensorRT {self.tensorrt} on {self.gpu} (compute capability {self.compute_capability}){system}"

    def changes_since(self, then: Mapping[str, Any]) -> List[str]:
        """Return the differences from an earlier ``to_dict``, each as "field before -> now"."""
        now = self.to_dict()
        return [f"{name} {then.get(name) or '?'} -> {now[name]}" for name in now if then.get(name) != now[name]]


@dataclass(frozen=True)
class Board:
    """The machine that builds and runs; memory in bytes."""

    identity: Identity
    free_bytes: int
    total_bytes: int
    integrated: bool

    @property
    def small(self) -> bool:
        """Whether a build must save memory."""
        return self.total_bytes < SMALL_BYTES


def import_tensorrt(purpose: str) -> Any:
    """Import NVIDIA's module.

    Raises MissingDependency where it is not installed, UnsupportedError before 8.5, which has no named tensors.
    """
    trt = require("tensorrt", purpose, engine_named("trt").packages[0].install)
    if not hasattr(trt, "ICudaEngine") or not hasattr(trt.ICudaEngine, "num_io_tensors"):
        help_ = (
            "JetPack 5.0 has that; install JetPack 5.1 or newer"
            if str(trt.__version__).startswith("8.4.")
            else "JetPack 4 boards (Nano, TX1, TX2) cannot have a newer one"
        )
        raise UnsupportedError(
            f"{purpose} needs TensorRT 8.5 or newer; this is {trt.__version__}. {help_}: docs/jetson.md."
        )
    return trt


def read_board(trt: Any, cuda: Cuda) -> Board:
    """Ask TensorRT and the driver about this machine."""
    gpu = cuda.gpu()
    free = gpu.free_bytes
    if gpu.integrated:  # the driver does not count what the system would give back from its file cache
        free = max(free, _available_bytes())
    identity = Identity(str(trt.__version__), gpu.name, gpu.compute_capability, read_machine().jetpack or "")
    return Board(identity, free, gpu.total_bytes, gpu.integrated)


def has_int8(compute_capability: str) -> bool:
    """Return whether a GPU multiplies INT8: from 6.1 on, without TX2's 6.2 (CUDA C++ Programming Guide, __dp4a).

    The compute capability decides, because TensorRT's own answer needs a Builder, which on a Jetson takes more than a
    gigabyte (NVIDIA/TensorRT#3640), and TensorRT 11 no longer gives it.
    """
    numbers = tuple(map(int, compute_capability.split(".")))
    return numbers >= _FIRST_WITH_INT8 and numbers not in _WITHOUT_INT8


def check_int8(compute_capability: str) -> None:
    """Raise UnsupportedError where the GPU has no INT8, with what to do instead."""
    if not has_int8(compute_capability):
        raise UnsupportedError("this GPU has no INT8 arithmetic (Jetson Nano, TX1 and TX2 have none): use --fp16.")


def _available_bytes() -> int:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return 0
    return int(match.group(1)) << 10 if match else 0
