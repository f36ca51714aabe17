"""Show the progress of a long task on stderr: lines for the user, and the progress bar of host commands."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, Optional, TypeVar

from .errors import require
from .job_time import Job

TERMINAL_EVERY_S, LOG_EVERY_S = 0.25, 10.0  # a log keeps every state of the bar

_BAR_IN_JOB = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}s{postfix}"

Say = Callable[[str], None]  # takes one line for the user, without its end; unless said otherwise, from any thread

T = TypeVar("T")


def say_nothing(line: str) -> None:
    """Ignore the line."""


_job: Optional[Job] = None  # whose steps the bars show


@contextmanager
def whole_job(job: Job) -> Iterator[Job]:
    """Let the bars in the block show the time that is left of the whole job, not of their own step."""
    global _job
    before, _job = _job, job
    try:
        yield job
    finally:
        job.end()
        _job = before


def begin_step(step: str, say: Say, line: str = "") -> None:
    """Say that a step begins, by its name or by ``line``; in a ``whole_job``, with the job's time left."""
    left = ""
    if _job is not None:
        _job.begin(step)
        left = _job.left()
    say(f"{line or step} ({left})" if left else line or step)


def with_progress(items: Iterable[T], name: str, unit: str, total: Optional[int] = None) -> Iterable[T]:
    """Return the items, and show a progress bar with the time that is left while they are taken.

    name:  stands before the bar. In a ``whole_job`` with a step of this name, the bar shows the job's time left.
    unit:  what an item is, such as "frame".
    total: the number of items, where ``items`` has no length.
    """
    bar = require("tqdm", f"edgedet ({name})").tqdm
    every_s = TERMINAL_EVERY_S if sys.stderr.isatty() else LOG_EVERY_S
    options = {"file": sys.stderr, "leave": False, "unit": unit, "mininterval": every_s}
    if _job is not None:
        return _shown_in_job(bar(items, name, total, bar_format=_BAR_IN_JOB, **options), name, _job)
    shown: Iterable[T] = bar(items, name, total, **options)
    return shown


def _shown_in_job(shown: Any, name: str, job: Job) -> Iterator[Any]:
    if job.has(name):
        job.begin(name)
    for number, item in enumerate(shown):
        job.advance(name, number / shown.total if shown.total else 0.0)
        shown.set_postfix_str(job.left(), refresh=False)
        yield item


def count_of(number: int, noun: str, plural: str = "s") -> str:
    """Return "1 frame" or "2 frames"."""
    return f"{number} {noun}{'' if number == 1 else plural}"
