"""A float model's detections on some frames, and the verdict on any other model of the same weights.

The exporting machine and the board judge with this. Frames are taken in batches, and no more of them than a sure
verdict needs.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from ...progress import Say, say_nothing
from ...types import Detections, ModelInput
from .pseudo_labels import FLOOR_SHARE, Detect, FloatRuns, PseudoLabels, float_runs
from .verdict import UNSURE, Verdict, verdict_without_labels

BATCH = 32  # frames


def spread(frames: Sequence[ModelInput]) -> List[ModelInput]:
    """Return the frames in an order in which the first BATCH of them are spread over all."""
    step = max(1, len(frames) // BATCH)
    return [frame for first in range(step) for frame in frames[first::step]]


class FloatReference:
    """What a float model detects. It is run on a batch of frames when a verdict first needs them."""

    def __init__(
        self,
        detect: Detect,
        frames: Sequence[ModelInput],
        score: float,
        say: Say = say_nothing,
    ) -> None:
        """detect: gives the float model's detections. Every model that is judged must follow the same rules of NMS.

        frames: in the order in which they are taken, spread over the scene.
        say: takes a line where more frames are taken.
        """
        self.frames, self.score = list(frames), score
        self._detect, self._say = detect, say
        self._runs: Optional[FloatRuns] = None
        self._labels: Dict[int, PseudoLabels] = {}
        self.last_detections: List[Detections] = []  # of the model that was judged last, in as many frames as that took

    def add(self, frame: ModelInput) -> None:
        """Take one frame more, behind the others."""
        self.frames.append(frame)

    def detections(self, count: int) -> List[Detections]:
        """Return what the float model detects in the first ``count`` frames."""
        done = 0 if self._runs is None else len(self._runs.still)
        if self._runs is None or done < count:  # without frames, too: an empty run
            new = float_runs(self._detect, self.frames[done:count], self.score)
            self._runs = new if self._runs is None else self._runs + new
        return self._runs.still[:count]

    def labels(self, count: int) -> PseudoLabels:
        """Return the pseudo-labels of the first ``count`` frames."""
        if count not in self._labels:
            self.detections(count)
            assert self._runs is not None
            self._labels[count] = PseudoLabels(self._runs.first(count), self.score)
        return self._labels[count]

    def count_labels(self, enough: int) -> int:
        """Return the number of pseudo-labels in as few batches of frames as hold ``enough``, or in all frames."""
        count = labels = 0
        while labels < enough and count < len(self.frames):
            count = min(count + BATCH, len(self.frames))
            labels = self.labels(count).count
        return labels

    def judge(self, detect: Detect, seed: int = 0) -> Verdict:
        """Return the verdict on another model's detections, of as few frames as make it sure, of all where none do."""
        detected: List[Detections] = []
        while True:
            count = min(len(detected) + BATCH, len(self.frames))
            batch = self.frames[len(detected) : count]
            detected += detect(batch, self.score * FLOOR_SHARE)
            self.last_detections = detected
            verdict = verdict_without_labels(self.labels(count), self.detections(count), detected, self.score, seed)
            if verdict.verdict != UNSURE or count == len(self.frames):
                return verdict
            self._say(f"not sure with {count} frames ({verdict.reason}): taking more of them")
