"""A SIMULATION of NVIDIA's `tensorrt` module, for machines without a GPU. It is no TensorRT and proves no speed.

It exposes exactly the members that the real bindings of one version have (golden/trt_api.json), so that a call which a
version lacks fails here too. Its "plans" are ONNX files, and its engines run them by onnxruntime on memory addresses,
when the simulated CUDA stream gets there. FP16 flags change nothing; typed networks compute what their file says.

SIMULATED_TENSORRT names the version, SIMULATED_FAULT one fault: parse, build, memory, slow, load, runtime, context,
enqueue. Everything that uses the device asks for a context of its thread (simulated_driver.py).

Its classes are made anew for each version, in simulated_trt_layers.py, _network.py, _builder.py and _runtime.py.
"""

from __future__ import annotations

from enum import IntEnum
from types import ModuleType, SimpleNamespace

import trt_api
from simulated_trt_base import Native, Surface
from simulated_trt_builder import make_builder
from simulated_trt_layers import make_layers
from simulated_trt_network import make_network
from simulated_trt_runtime import make_runtime

ENUMS = (
    "BuilderFlag",
    "DataType",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "TacticSource",
    "TensorIOMode",
)


def module_for(version: str) -> ModuleType:
    """Return a module of the version's surface."""
    surface = _read_surface(version)
    layers = make_layers(surface)
    networks = make_network(surface, layers)
    parts = (_make_listeners(surface), layers, networks, make_builder(surface, layers, networks), make_runtime(surface))
    module = ModuleType("tensorrt")
    module.__version__ = version
    for part in parts:
        for name, kind in vars(part).items():
            kind.__module__ = __name__  # as all classes of the bindings say their package's
            _remove_lacking(kind, surface.members.get(name, frozenset()))
            if name in surface.members:
                setattr(module, name, kind)
    for name, kind in vars(surface.enums).items():
        setattr(module, name, kind)
    return module


def _read_surface(version: str) -> Surface:
    members = trt_api.members(version)
    enums = {
        name: IntEnum(name, [m for m in sorted(members[name]) if m not in ("name", "value")], start=0) for name in ENUMS
    }
    severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
    return Surface(version, members, SimpleNamespace(**enums), severity)


def _make_listeners(surface: Surface) -> SimpleNamespace:
    """Return the classes that programs inherit from, by their names."""

    class ILogger(Native):
        Severity = surface.severity
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = surface.severity
        __setattr__ = object.__setattr__  # Python classes that inherit may hold what they like

    class IProgressMonitor(Native):
        __setattr__ = object.__setattr__

    return SimpleNamespace(ILogger=ILogger, IProgressMonitor=IProgressMonitor)


def _remove_lacking(kind: type[Native], members: frozenset[str]) -> None:
    """Let a class have no public member but those that the version has."""
    kind._members = members
    for member in [key for key in vars(kind) if not key.startswith("_") and key not in members]:
        delattr(kind, member)
