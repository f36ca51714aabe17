"""On what machine, at which clock and by which engine a figure was measured. Knows no model's content."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.engines.table import engine_for
from edgedet.machine import clock_mhz, governor, machine_of


def device_figures() -> dict[str, Any]:
    """Return name, cores, clock, load and software of this machine; None for what it does not tell."""
    machine = machine_of()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": machine.cpu if machine.arch == "x86_64" else machine.board or machine.cpu,
        "cpu": machine.cpu,
        "machine": machine.arch,
        "cores": machine.cores,
        "clock_mhz": clock_mhz(),
        "governor": governor(),
        "load_1min": load,
        "os": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": getattr(sys.modules.get("cv2"), "__version__", None),
    }


def engine_version(model: Path) -> str:
    """Return name and version of the engine package that runs ``model``, which is open."""
    engine = engine_for(model)
    for package in engine.packages if engine else ():
        if package.module in sys.modules:
            return f"{package.module} {getattr(sys.modules[package.module], '__version__', '')}".strip()
    return model.suffix.lstrip(".")
