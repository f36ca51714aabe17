"""Describe the machine, the clock and the engine with which a figure was measured."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedet.engines.table import engine_for
from edgedet.machine import clock_mhz, governor, read_machine


@dataclass(frozen=True)
class Device:
    """The machine and its software; None for what it does not tell.

    device:    name of the board or of the CPU. machine: "x86_64" or "aarch64".
    clock_mhz: of the first core. load_1min: load average of the last minute.
    """

    device: str
    cpu: str
    machine: str
    cores: int
    clock_mhz: float | None
    governor: str | None
    load_1min: float | None
    os: str
    python: str
    numpy: str
    opencv: str | None


def describe_device() -> Device:
    """Return name, cores, clock, load and software of this machine."""
    machine = read_machine()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Device(
        device=machine.cpu if machine.arch == "x86_64" else machine.board or machine.cpu,
        cpu=machine.cpu,
        machine=machine.arch,
        cores=machine.cores,
        clock_mhz=clock_mhz(),
        governor=governor(),
        load_1min=load,
        os=platform.platform(),
        python=platform.python_version(),
        numpy=np.__version__,
        opencv=getattr(sys.modules.get("cv2"), "__version__", None),
    )


def describe_engine(model: Path) -> str:
    """Return name and version of the engine package that runs ``model``, which is open."""
    engine = engine_for(model)
    for package in engine.packages if engine else ():
        if package.module in sys.modules:
            return f"{package.module} {getattr(sys.modules[package.module], '__version__', '')}".strip()
    return model.suffix.lstrip(".")
