"""Estimate the time that is left of a job of several steps, from the part that is done."""

from __future__ import annotations

import time
from typing import Callable, List, Mapping, Optional

LEAST_DONE = 0.03  # share of a job that must be done before its speed tells how long the rest takes


class Job:
    """A job of steps whose relative costs are known, so that the part that is done tells how long the rest takes.

    Time between steps, and in steps that the job does not list, is not counted.
    """

    def __init__(self, costs: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        """costs: of each step, in their order; in any unit, such as seconds on another machine."""
        self._costs, self._clock = dict(costs), clock
        self._finished: List[str] = []
        self._step: Optional[str] = None
        self._fraction = 0.0
        self._spent_s, self._since_s = 0.0, 0.0

    def begin(self, step: str) -> None:
        """Begin a step, or go on with it; the one before it is done, and so are those that were passed over."""
        if step == self._step:
            return
        self.end()
        if step in self._costs and step not in self._finished:
            names = list(self._costs)
            self._finished = names[: names.index(step)]
            self._step, self._fraction, self._since_s = step, 0.0, self._clock()

    def has(self, step: str) -> bool:
        """Return whether the job has such a step."""
        return step in self._costs

    def advance(self, step: str, fraction: float) -> None:
        """Say how much of a step is done, 0 to 1; less than before, or of another step, changes nothing."""
        if step == self._step:
            self._fraction = max(self._fraction, min(fraction, 1.0))

    def end(self) -> None:
        """End the present step."""
        if self._step is not None:
            self._spent_s += self._clock() - self._since_s
            self._finished = [*self._finished, self._step]
        self._step = None

    def left_s(self) -> Optional[float]:
        """Return the seconds that are left of all steps; None where too little is done to tell."""
        total = sum(self._costs.values())
        done, spent_s = sum(self._costs[step] for step in self._finished), self._spent_s
        if self._step is not None:
            done += self._fraction * self._costs[self._step]
            spent_s += self._clock() - self._since_s
        if done < LEAST_DONE * total or not total:
            return None
        return spent_s * (total - done) / done

    def left(self) -> str:
        """Return the time left in words: "about 2 min 10 s left"; "" where it is not known."""
        seconds = self.left_s()
        if seconds is None:
            return ""
        minutes, rest = divmod(int(round(seconds / 5.0)) * 5, 60)
        return f"about {f'{minutes} min ' if minutes else ''}{rest} s left"
