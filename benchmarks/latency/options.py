"""What a benchmark measures and how, as options; reading numbers and ranges. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedet.benchmarks.models.family_files import FamilyFile
from edgedet.errors import InputError
from edgedet.postprocess import DEFAULT_SCORE

if TYPE_CHECKING:
    from edgedet.judge.labels import Dataset

LONGEST_RANGE = 10_000


@dataclass(frozen=True)
class BenchOptions:
    """What is measured, and how.

    models:    the user's model files.
    family:    files of the family, exported where they are not in the cache.
    left_out:  one line for each pair of precision and engine that there is no file for.
    threads:   numbers of CPU threads, each once; every model is measured on each.
    source:    image, folder or video; None: the demo's clip.
    runs:      of each model, at least; ``seconds``: of the measurement, at least; ``warmup``: runs before them.
    score:     threshold of detections, in (0, 1).
    dataset:   labelled images to measure AP on.
    sustain_s: seconds that each model then runs at a stretch; None: it does not.
    profile:   then say where the network's time goes.
    """

    models: tuple[str, ...]
    family: tuple[FamilyFile, ...] = ()
    left_out: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    source: str | None = None
    runs: int = 50
    seconds: float = 5.0
    warmup: int = 5
    score: float = DEFAULT_SCORE
    dataset: Dataset | None = None
    sustain_s: float | None = None
    profile: bool = False


def parse_numbers(option: str, text: str) -> list[int]:
    """Parse "0,2,4-6" to [0, 2, 4, 5, 6], each once; raises InputError naming the option."""
    parsed: list[int] = []
    for part in text.split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(end.isdigit() for end in ends) or not _fits(int(ends[0]), int(ends[-1])):
            raise InputError(f"{option} takes numbers and ranges, such as 0,2,4-6; got {text!r}.")
        parsed += range(int(ends[0]), int(ends[-1]) + 1)
    return list(dict.fromkeys(parsed))


def _fits(first: int, last: int) -> bool:
    return first <= last < first + LONGEST_RANGE
