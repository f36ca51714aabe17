"""The last ten minutes of a camera in steps of two seconds: frames a second, age, boxes by class."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, Mapping, Optional

STEP_S = 2.0
STEPS = 300  # ten minutes


@dataclass
class _Step:
    """What came in one step; ``number`` counts steps since the start of the run."""

    number: int
    frames: int = 0
    aged: int = 0  # frames whose age is known
    age_sum_ms: float = 0.0
    longest_ms: float = 0.0
    boxes: Counter[int] = field(default_factory=Counter)


class History:
    """The history of one camera. Times are seconds since the start of the run."""

    def __init__(self) -> None:
        """Begin without a frame."""
        self._steps: Deque[_Step] = deque(maxlen=STEPS + 1)  # the last one is still being filled

    def note(self, at_s: float, age_ms: Optional[float], boxes: Mapping[int, int]) -> None:
        """Take one frame; ``boxes``: class id -> detections in it."""
        number = int(at_s / STEP_S)
        if not self._steps or self._steps[-1].number != number:
            self._steps.append(_Step(number))
        step = self._steps[-1]
        step.frames += 1
        step.boxes.update(boxes)
        if age_ms is not None:
            step.aged += 1
            step.age_sum_ms += age_ms
            step.longest_ms = max(step.longest_ms, age_ms)

    def columns(self, now_s: float, steps: int = STEPS) -> Dict[str, Any]:
        """Return the last complete steps, oldest first, as lists of one length.

        at_s: the end of each step, seconds since the start; fps: frames a second; age_ms and longest_ms: mean and
        longest age, None without one; boxes: class id -> mean number of detections in a frame, 0 without a frame.
        """
        end = int(now_s / STEP_S)
        numbers = range(max(0, end - steps), end)
        by_number = {step.number: step for step in self._steps}
        rows = [by_number.get(number, _Step(number)) for number in numbers]
        classes = sorted(set().union(*(row.boxes for row in rows)))
        return {
            "at_s": [(row.number + 1) * STEP_S for row in rows],
            "fps": [row.frames / STEP_S for row in rows],
            "age_ms": [round(row.age_sum_ms / row.aged, 1) if row.aged else None for row in rows],
            "longest_ms": [round(row.longest_ms, 1) if row.aged else None for row in rows],
            "boxes": {name: [round(row.boxes[name] / max(row.frames, 1), 2) for row in rows] for name in classes},
        }
