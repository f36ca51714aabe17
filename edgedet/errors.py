"""Every error that edgedet raises on purpose. This module imports nothing else of the package.

    EdgeDetError               exit code 2   bad input or usage; base of all
    |-- InputError             a file, value or option that cannot be used
    |   |-- CheckpointError    weights that do not fit, are damaged or are not safe to load
    |   |   `-- AmbiguousCheckpoint  weights that several models share
    |   |-- ArtifactError      a model file that edgedet did not write, or that is damaged
    |   |   |-- ForeignError   a model file without edgedet's metadata
    |   |   `-- OutdatedError  a model file that was built for another machine, and can be built again for this one
    |   |-- SourceError        a camera, video or image that cannot be read
    |   |   |-- LoginError     a camera that does not accept the user or the password
    |   |   `-- CameraError    exit code 4   no camera can be opened now; also an UnavailableError
    |   |-- UnavailableError   exit code 4   a disk or an address that cannot be used now, and may be later
    |   `-- ShapeError         arrays whose shapes do not belong together
    |-- MissingDependency      a package that is not installed; the message names the pip command
    |-- UnsupportedError       something that this engine, board or version cannot do
    |-- DeviceError            exit code 4   a GPU that is not there, failed, or has no memory left
    |-- ClosedError            a detector or an engine that was used after it was closed
    |-- VerificationError      exit code 3   a produced file was refused because it does not do what the model did
    `-- PartialFailure         exit code 1   the rest was done; the message counts and names the failures

Each message says what was wanted, what came and what to do. Only ``edgedet.cli.main`` prints errors and exits.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Optional


class EdgeDetError(Exception):
    """Base of every error that edgedet raises on purpose."""

    exit_code = 2


class InputError(EdgeDetError):
    """A file, value or option that cannot be used."""


class CheckpointError(InputError):
    """Weights that do not fit the model, are damaged, or are not safe to load."""


class AmbiguousCheckpoint(CheckpointError):
    """Weights that several models share; ``candidates`` are their names."""

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        """Keep the names beside the message."""
        super().__init__(message)
        self.candidates = tuple(candidates)


class ArtifactError(InputError):
    """A model file that edgedet did not write, or that is damaged."""


class ForeignError(ArtifactError):
    """A model file without edgedet's metadata."""


class OutdatedError(ArtifactError):
    """A model file that was built for another machine, and can be built again for this one."""


class SourceError(InputError):
    """A camera, video or image that cannot be read."""


class LoginError(SourceError):
    """A camera that does not accept the user or the password; asking again and again may lock its account."""


class UnavailableError(InputError):
    """A disk or an address that cannot be used now; the same command may succeed later."""

    exit_code = 4


class CameraError(SourceError, UnavailableError):
    """No camera can be opened now: one may be plugged in later."""


class ShapeError(InputError):
    """Arrays whose shapes do not belong together."""


class MissingDependency(EdgeDetError):
    """A package that is not installed; the message names the command that installs it."""


class UnsupportedError(EdgeDetError):
    """Something that this engine, board or version cannot do."""


class DeviceError(EdgeDetError):
    """A GPU that is not there, failed, or has no memory left."""

    exit_code = 4


class ClosedError(EdgeDetError):
    """A detector or an engine that was used after it was closed."""


class VerificationError(EdgeDetError):
    """A produced file was refused because it does not do what the model did."""

    exit_code = 3


class PartialFailure(EdgeDetError):
    """Part of the work failed; the rest was done."""

    exit_code = 1


# What to type for a module that is not there; those of engines are in the table of engines. OpenCV is the board's own
# where it has one (docs/boards.md).
_PIP = {
    "cv2": "pip install 'edgedet[pc]' (on a Jetson or Raspberry Pi: apt install python3-opencv)",
    "torch": "pip install 'edgedet[export]'",
    "onnx": "pip install 'edgedet[export]'",
    "safetensors": "pip install 'edgedet[export]'",
    "skimage": "pip install 'edgedet[export]'",
    "tqdm": "pip install 'edgedet[export]'",
    "ruamel": "pip install 'edgedet[config]' (on a Raspberry Pi: apt install python3-ruamel.yaml)",
    "yaml": "pip install 'edgedet[config]' (on a Jetson or Raspberry Pi: apt install python3-yaml)",
    "google_crc32c": "pip install 'edgedet[export]'",
    "flatbuffers": "pip install 'edgedet[tflite]'",
    "pycocotools": "pip install 'edgedet[bench]'",
    "matplotlib": "pip install 'edgedet[bench]'",
    "tornado": "pip install 'edgedet[web]'",
    "paho": "pip install 'edgedet[mqtt]'",
    "zmq": "pip install 'edgedet[serve]'",
    "prometheus_client": "pip install 'edgedet[web]'",
    "shtab": "pip install 'edgedet[completion]'",
    "av": "pip install 'edgedet[record]'",
}


def require(module: str, purpose: str, install: Optional[str] = None) -> ModuleType:
    """Import ``module``, or say in one line which command installs it, or why it does not load.

    install: the command; None for the one that this module knows, or ``pip install`` with the module's name.
    Raises MissingDependency naming ``purpose`` (for example "edgedet export").
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        root = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != root:
            raise
        how = install or _PIP.get(root, f"pip install {root.replace('_', '-')}")
        raise MissingDependency(f"{purpose} needs {root}, which is not installed: {how}") from None
    except ImportError as error:  # a shared library is missing, as libGL.so.1 of pip's OpenCV where no screen is
        reason = str(error).splitlines()[0]
        raise MissingDependency(f"{purpose} needs {module}, which is installed but does not load: {reason}.") from None


def with_own_pip(text: str) -> str:
    """Return a text whose ``pip install`` and ``pip uninstall`` reach this Python, also where its pip is not PATH's.

    An edgedet that is called by its path, as ``~/edgedet/bin/edgedet``, is in a virtual environment that is not active.
    """
    own = os.path.join(os.path.dirname(sys.executable), "pip")
    if shutil.which("pip") == own or not os.path.exists(own):
        return text
    home = os.path.expanduser("~") + os.sep
    name = shlex.quote(own[len(home) :] if own.startswith(home) else own)
    return re.sub(r"\bpip (?=(?:un)?install )", lambda _: f"{'~/' if own.startswith(home) else ''}{name} ", text)


def in_one_line(error: BaseException) -> str:
    """Return the class and the text of an error that other code raised, as one line without a full stop."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")
