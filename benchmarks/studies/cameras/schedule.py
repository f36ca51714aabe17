"""A SIMULATION of the run's loop in virtual time: which frames are served when each step costs what was measured.

Pictures, gate, packing, detections and tracks are the real ones. Only the clock is simulated, so that a busy machine
and its other programs change no result: a step takes the time that was measured for it beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgedet.types import Detections, Frame, FrameResult

from .recall import EventLog
from .scene import Scene

PHASE = 0.618  # of cameras' clocks and of their scenes' beginnings: no two cameras see the same at once


@dataclass(frozen=True)
class Costs:
    """Milliseconds of wall time of one run of the network with its pre- and post-processing, and of a frame besides.

    cpu_look_ms: CPU time of the run, of all threads.
    gate_ms:  of one frame; it is spent in the detecting thread, before the look.
    track_ms: of one frame; counted as if it delayed the next look, though it runs in another thread.
    """

    look_ms: float
    cpu_look_ms: float
    gate_ms: float
    track_ms: float


@dataclass
class Served:
    """What a simulated run did."""

    logs: dict[str, EventLog]
    ages_ms: list[float] = field(default_factory=list)
    processed: dict[str, int] = field(default_factory=dict)
    captured: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    cpu_s: float = 0.0

    @property
    def served(self) -> float:
        """Return the mean share of its frames that a camera gets served."""
        return float(np.mean([self.processed[name] / self.captured[name] for name in self.captured]))

    @property
    def fairness(self) -> float:
        """Return the largest share of a camera over the smallest one."""
        shares = [self.processed[name] / self.captured[name] for name in self.captured]
        return max(shares) / max(min(shares), 1e-9)


class Every:
    """Detection on every frame that is taken, one run each."""

    def __init__(self, detect: Callable[[Frame], Detections]) -> None:
        self._detect = detect
        self.looks = {"runs": 0}

    def add(self, frame: Frame) -> bool:
        """Take no second frame."""
        return True

    def detect_batch(self, frames: list[Frame]) -> list[FrameResult]:
        """Return the detections of each frame."""
        self.looks["runs"] += len(frames)
        return [FrameResult(frame, self._detect(frame)) for frame in frames]


def simulate(scene: Scene, cameras: int, seconds: float, detector, costs: Costs, gated: bool) -> Served:
    """Run ``detector`` (add, detect_batch, looks) on cameras that show the scene from different moments on."""
    names = [f"camera {number}" for number in range(cameras)]
    phase_s = [number * PHASE % 1.0 / scene.fps for number in range(cameras)]
    first = [round(number * PHASE % 1.0 * len(scene)) for number in range(cameras)]
    newest = [-1] * cameras
    frames = int(seconds * scene.fps)
    served = Served({name: EventLog(scene.fps) for name in names})
    served.captured = dict.fromkeys(names, frames)
    served.processed = dict.fromkeys(names, 0)
    now_s, turn = 0.0, 0
    while True:
        group: list[Frame] = []
        for number in (*range(turn, cameras), *range(turn)):
            index = (
                min(int((now_s - phase_s[number]) * scene.fps + 1e-9), frames - 1) if now_s >= phase_s[number] else -1
            )
            if index <= newest[number]:
                continue
            newest[number] = index
            at_s = index / scene.fps + phase_s[number]
            frame = Frame(scene.picture(first[number] + index), at_s, index, camera=names[number])
            group.append(frame)
            turn = (number + 1) % cameras
            now_s += costs.gate_ms / 1e3 if gated else 0.0
            if detector.add(frame):
                break
        if not group:
            waiting = [(newest[n] + 1) / scene.fps + phase_s[n] for n in range(cameras) if newest[n] + 1 < frames]
            if not waiting:
                break
            now_s = max(now_s, min(waiting)) + 1e-6
            continue
        before = detector.looks["runs"]
        results = detector.detect_batch(group)
        runs = detector.looks["runs"] - before
        served.runs += runs
        now_s += (runs * costs.look_ms + len(group) * costs.track_ms) / 1e3
        per_frame_ms = costs.track_ms + (costs.gate_ms if gated else 0.0)
        served.cpu_s += (runs * costs.cpu_look_ms + len(group) * per_frame_ms) / 1e3
        for result in results:
            number = names.index(result.frame.camera)
            served.ages_ms.append((now_s - result.frame.captured_s) * 1e3)
            served.processed[result.frame.camera] += 1
            served.logs[result.frame.camera].add(first[number] + result.frame.index, result.detections)
    return served
