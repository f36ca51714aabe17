"""On what machine, at which clock and by which engine a figure was measured. Knows no model's content."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

_BOARD = Path("/proc/device-tree/model")  # "NVIDIA Jetson Orin Nano Developer Kit", "Raspberry Pi 5 Model B Rev 1.0"
_CPUINFO = Path("/proc/cpuinfo")
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
# suffix of a model file -> packages of its engines, of which one is imported once such a file is open
_ENGINES = {".onnx": ("onnxruntime",), ".tflite": ("ai_edge_litert", "tflite_runtime")}


def device_figures() -> dict[str, Any]:
    """Return name, cores, clock, load and software of this machine; None for what it does not tell."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": _board() or _cpu("model name") or platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "clock_mhz": _clock_mhz(),
        "governor": _text(_CPUFREQ / "scaling_governor"),
        "load_1min": load,
        "os": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": getattr(sys.modules.get("cv2"), "__version__", None),
    }


def engine_version(model: Path) -> str:
    """Return name and version of the engine package that runs ``model``, which is open."""
    for package in _ENGINES.get(model.suffix.lower(), ()):
        if package in sys.modules:
            return f"{package} {getattr(sys.modules[package], '__version__', '')}".strip()
    return model.suffix.lstrip(".")


def _board() -> str | None:
    text = _text(_BOARD)
    return text.rstrip("\0") if text else None


def _clock_mhz() -> float | None:
    khz = _text(_CPUFREQ / "scaling_cur_freq")
    mhz = float(khz) / 1e3 if khz else float(_cpu("cpu MHz") or 0)
    return round(mhz, 1) or None


def _cpu(key: str) -> str | None:
    for line in (_text(_CPUINFO) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:  # this machine has no such file
        return None
