"""Observe calibration frames, and run the files that an export judges, in several workers: ``int8.workers.Workers``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

from edgedet.benchmarks.cluster.shards import ClusterOptions, Lost, Throughput, ray_session, run_in_shards
from edgedet.benchmarks.cluster.shared_file import SharedFile, open_once
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.ranges.observe import FrameTask, ObservedFrame, observe_frame
from edgedet.errors import InputError
from edgedet.export.int8.workers import open_here
from edgedet.types import Detections, ModelInput

SHARD = 4  # frames: an export has some dozens, and each takes as long as ten pictures of an evaluation
T = TypeVar("T")


class RayWorkers:
    """Ray's workers; made by ``int8_workers``, which ends them."""

    def __init__(self, ray: Any, options: ClusterOptions) -> None:
        """``throughput`` counts the frames that each machine does."""
        self.throughput = Throughput()
        self._options = options
        self._run = partial(run_in_shards, ray, options=options, shard_size=SHARD, throughput=self.throughput)

    def observe_frames(self, model: onnx.ModelProto, tasks: list[FrameTask]) -> Iterator[ObservedFrame]:
        """Return what the float graph computes in each frame, in the order of the tasks."""
        graph = SharedFile.of("graph.onnx", model.SerializeToString())
        observed: list[ObservedFrame | Lost] = self._run(
            _observe, (graph, self._options.threads), tasks, title="observing"
        )
        # Ray's arrays may not be written, which PyTorch warns of; copies also free the room in its object store
        for frame in all_done(observed):
            yield replace(frame, samples=frame.samples.copy(), at_places=frame.at_places.copy())

    def open_detector(self, path: Path) -> DetectorInWorkers:
        """Send a model file to the machines when it is first asked for detections."""
        return DetectorInWorkers(SharedFile.of(path.name, path.read_bytes()), self._options.threads, self._run)


class DetectorInWorkers:
    """A model file that is open in every worker."""

    def __init__(self, file: SharedFile, threads: int, run: Any) -> None:
        """``run`` is ``run_in_shards`` without work, what is shared, items and title."""
        self._file, self._threads, self._run = file, threads, run

    def detect(self, frames: Iterable[ModelInput], score: float) -> list[Detections]:
        """Return the detections of each frame; a sequence's frames are made one by one when a worker is free."""
        ready = frames if isinstance(frames, Sequence) else list(frames)
        shared = (self._file, self._threads, score)
        return all_done(self._run(_detect, shared, range(len(ready)), load=ready.__getitem__, title="judging"))

    def close(self) -> None:
        """Leave the file to the workers, which end with the session."""


@contextmanager
def int8_workers(options: ClusterOptions) -> Iterator[RayWorkers]:
    """Yield workers for one export; they end with the block. Raises as ``ray_session``."""
    with ray_session(options) as ray:
        yield RayWorkers(ray, options)


def all_done(results: list[T | Lost]) -> list[T]:
    """Return the results; raises InputError where a frame was lost, because a table of fewer frames is another one."""
    for index, result in enumerate(results):
        if isinstance(result, Lost):
            raise InputError(
                f"frame {index + 1} of {len(results)}: {result.reason}. Take fewer --workers, if memory is short, or "
                "leave the frame out."
            )
    return [result for result in results if not isinstance(result, Lost)]


# --- in a worker -----------------------------------------------------------------------------------------------------


def _observe(shared: tuple[SharedFile, int], tasks: Sequence[FrameTask]) -> list[ObservedFrame]:
    import torch

    graph, threads = shared
    torch.set_num_threads(threads)
    executor = open_once(graph, "observe", lambda path: Executor(onnx.load(path)))
    # Ray's arrays may not be written, which PyTorch warns of
    return [observe_frame(executor, replace(task, pixels=np.array(task.pixels))) for task in tasks]


def _detect(shared: tuple[SharedFile, int, float], frames: Sequence[ModelInput]) -> list[Detections]:
    file, threads, score = shared
    detector = open_once(file, threads, partial(open_here, threads=threads, shows_progress=False))
    return detector.detect(frames, score)
