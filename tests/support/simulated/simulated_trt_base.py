"""A SIMULATION: what all classes of the simulated TensorRT share, which are the version they imitate and their base."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace
from typing import Mapping

PLAN = b"simulated plan of TensorRT "  # how a plan begins; the version follows, and the ONNX file after a line's end
PROFILES = "profiles"  # entry of that file's metadata: shapes of its inputs, for each profile


class Native:
    """As a class of the bindings: nothing can be set that is not there."""

    _members: frozenset[str] = frozenset()

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in self._members:
            raise AttributeError(f"{type(self).__name__} has no member {name} in this version (simulation)")
        object.__setattr__(self, name, value)


class HostMemory(bytes):
    """IHostMemory: a buffer."""


@dataclass(frozen=True)
class Surface:
    """What one version of the bindings has.

    members: names of a class's members, by the class's name.
    enums:   its enumerations, by their names.
    """

    version: str
    members: Mapping[str, frozenset[str]]
    enums: SimpleNamespace
    severity: type[IntEnum]
