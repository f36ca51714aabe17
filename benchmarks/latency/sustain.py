"""Measure frames a second and temperature of one model that runs for a long time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedet.benchmarks.latency.sensors import open_power_meter, read_clocks_mhz, read_temperatures
from edgedet.errors import InputError
from edgedet.types import Frame

if TYPE_CHECKING:
    from edgedet.benchmarks.latency.measure import Run

POINTS = 120  # of the plot
LEAST_WINDOW_S = 1.0
ENDS_SHARE = 0.1  # of the time at either end, whose means are compared
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Window:
    """A stretch of the run.

    t_s:    its end, since the start. fps: frames done in it by its length.
    celsius: the hottest sensor. clock_mhz: the fastest core. power_w: of the board. None where not available.
    """

    t_s: float
    fps: float
    celsius: float | None
    clock_mhz: float | None
    power_w: float | None


@dataclass(frozen=True)
class Sustained:
    """All windows of one model, and whether Ctrl-C or a failure ended the run early."""

    windows: tuple[Window, ...]
    interrupted: bool = False
    failure: str | None = None

    @property
    def kept(self) -> float | None:
        """Share of the first windows' frames a second that the last windows have; None with fewer than two windows."""
        if len(self.windows) < 2:
            return None
        count = max(1, round(ENDS_SHARE * len(self.windows)))
        rates = [window.fps for window in self.windows]
        return float(np.mean(rates[-count:]) / np.mean(rates[:count]))


def parse_seconds(text: str) -> float:
    """Parse "90", "45s", "30m" or "1h" to seconds; raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match.group(1)) <= 0:
        raise InputError(f"--sustain takes a time such as 45s, 30m or 1h; got {text!r}.")
    return float(match.group(1)) * _UNITS[match.group(2)]


def sustain(
    run: Run, frames: Sequence[Frame], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Sustained:
    """Run without a pause; sensors are read between windows. Ctrl-C ends it, and what was measured stays."""
    windows: list[Window] = []
    interrupted, failure = False, None
    window_s = max(LEAST_WINDOW_S, seconds / POINTS)
    done = count = 0
    with open_power_meter() as power_w:
        started = begun = clock()
        try:
            while begun - started < seconds:
                run(frames[count % len(frames)])
                done, count, now = done + 1, count + 1, clock()
                if now - begun >= window_s or now - started >= seconds:
                    heat, clocks = read_temperatures().values(), read_clocks_mhz()
                    windows.append(
                        Window(
                            t_s=round(now - started, 2),
                            fps=done / (now - begun),
                            celsius=max(heat, default=None),
                            clock_mhz=max(clocks, default=None),
                            power_w=power_w(),
                        )
                    )
                    begun, done = clock(), 0  # the time that sensors took to read is in no window
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:  # each engine has exceptions of its own; other models are to be run still
            failure = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return Sustained(tuple(windows), interrupted, failure)


def draw_spark(values: Sequence[float], width: int = 60) -> str:
    """Return values as a line of eight heights from 0 to the largest, at most ``width`` characters."""
    groups = np.array_split(np.asarray(values, dtype=float), min(width, len(values)))
    top = max(float(np.max(values)), 1e-12)
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * float(group.mean()) / top)] for group in groups)
