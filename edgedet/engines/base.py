"""The interface of inference engines, and opening a model file with the engine that runs its kind."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import List, Optional, Protocol, Sequence, Tuple, Type, TypeVar, Union

import numpy as np

from ..artifact import ArtifactMeta
from ..errors import ArtifactError, InputError, ShapeError, UnsupportedError
from ..files import unreadable
from ..types import RawOutputs
from .table import engine_for, model_suffixes

MAX_THREADS = 1024  # XNNPACK ends the process where the system refuses a thread; no board has as many cores

CLOSED = "this engine was closed: open the model file again."
E = TypeVar("E", bound="Engine")


class Engine(Protocol):
    """Runs one network on one picture at a time; two threads must not use it at once. A ``with`` block closes it.

    max_batch: how many pictures ``infer_batch`` takes at most.
    """

    max_batch: int = 1

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 BGR pixels; the outputs may be overwritten by the next call.

        Raises ShapeError for other pixels, ClosedError after ``close``.
        """
        ...

    def infer_batch(self, pixels: np.ndarray) -> List[RawOutputs]:
        """Run (n, H, W, 3) pixels, n from 1 to ``max_batch``, at once; the outputs may be overwritten by the next call.

        Raises as ``infer``.
        """
        return [self.infer(pixels)]  # an engine of one picture at a time refuses others

    def close(self) -> None:
        """Free what the engine holds; a second call does nothing."""
        ...

    def __enter__(self: E) -> E:
        """Return the engine; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Close the engine."""
        self.close()


def check_pixels(pixels: np.ndarray, input_shape: Tuple[int, ...], max_batch: int = 1) -> None:
    """Raise ShapeError where pixels are not uint8 of the model's input shape (1, H, W, 3), 1 to max_batch of them."""
    fits = pixels.shape[1:] == input_shape[1:] and 1 <= len(pixels) <= max_batch
    if not fits or pixels.dtype != np.uint8:
        more = f", or up to {max_batch} of them," if max_batch > 1 else ""
        raise ShapeError(f"the model wants {input_shape}{more} uint8; got {pixels.shape} {pixels.dtype}.")


def raw_from_arrays(arrays: Sequence[np.ndarray]) -> RawOutputs:
    """Return a picture's raw outputs from the arrays of ``ArtifactMeta.output_arrays``, in their order."""
    logits, codes, *anchor_ids = arrays
    return RawOutputs.of_top_anchors(logits, codes, *anchor_ids) if anchor_ids else RawOutputs(logits, codes)


def default_threads() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int) -> None:
    """Raise InputError for a number of threads that no engine can have."""
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"models run on 1 to {MAX_THREADS} threads; got {threads}.")


def choose_batch(asked: Optional[int], max_batch: int, model: Path) -> int:
    """Return how many pictures of several cameras go through the network at once: as many as were asked for.

    Where no number was asked for, a GPU takes as many as the model does (``max_batch``). A CPU takes one, because two
    pictures take it twice as long: with two cameras frames were 250 ms old, and not 115 (D0, 256 x 256, one thread).
    Raises InputError for more than the model takes.
    """
    if asked is not None and not 1 <= asked <= max_batch:
        raise InputError(
            f"--batch wants 1 to {max_batch} pictures for this model; got {asked}: `edgedet export --batch N` writes a "
            "model that takes more."
        )
    engine = engine_for(model)
    on_gpu = engine is not None and engine.hardware == "GPU"
    return asked or (max_batch if on_gpu else 1)


def open_engine(path: Union[str, Path], threads: int, delegate: Optional[str] = None) -> Tuple[ArtifactMeta, Engine]:
    """Open a model file with the engine that its suffix names, on ``threads`` CPU threads.

    delegate: shared library that runs the operators of a TFLite file that it supports, for example libedgetpu.so.1.
    Raises InputError for an impossible number of threads, ArtifactError where the file is missing, may not be read, is
    damaged or not made by edgedet, OutdatedError where it was built for another machine (``rebuild_model`` builds it
    again), MissingDependency where the engine's package is not installed, UnsupportedError where the delegate cannot be
    used.
    """
    check_threads(threads)
    path = Path(path)
    spec = engine_for(path)
    if spec is None:
        raise ArtifactError(
            f"{path} is no model that edgedet runs: wanted a name ending in {', '.join(model_suffixes())}."
        )
    if not os.path.isfile(path):
        raise ArtifactError(f"there is no model file {path}: name one that `edgedet export` wrote.")
    try:
        os.close(os.open(path, os.O_RDONLY))  # a library would call the file damaged
    except OSError as error:
        raise ArtifactError(unreadable(path, error)) from None
    if delegate is not None and not spec.delegates:
        raise UnsupportedError(f"only TFLite files run on a delegate, and {path} is none: leave --delegate out.")
    open_model = import_module(spec.module).open_model
    opened: Tuple[ArtifactMeta, Engine] = (
        open_model(path, threads) if delegate is None else open_model(path, threads, delegate)
    )
    return opened


def rebuild_model(path: Union[str, Path]) -> None:
    """Build a model file again for this machine with the same options; for files that ``open_engine`` calls outdated.

    It takes minutes and shows its progress on stderr. A failure leaves the file as it was. Raises the errors of the
    build, and UnsupportedError for files that are not built on the machine that runs them.
    """
    spec = engine_for(path)
    rebuild = None if spec is None else getattr(import_module(spec.module), "rebuild", None)
    if rebuild is None:
        raise UnsupportedError(f"{path} is not built on the machine that runs it: export it again.")
    rebuild(Path(path))


def read_meta(path: Union[str, Path]) -> ArtifactMeta:
    """Return a model file's metadata; the engine's package is needed only where the file cannot be read without it.

    Raises the same errors as ``open_engine``.
    """
    path = Path(path)
    spec = engine_for(path)
    read = None if spec is None else getattr(import_module(spec.module), "read_meta", None)
    if read is not None:
        meta: ArtifactMeta = read(path)
        return meta
    meta, engine = open_engine(path, default_threads())
    engine.close()
    return meta
