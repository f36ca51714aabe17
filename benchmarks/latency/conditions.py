"""The conditions under which a figure was measured, and reasons to doubt it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgedet.benchmarks.latency.sensors import Settings, Snapshot

OTHERS_CORES = 0.1  # of a core, used by other programs: more is worth a warning
STEAL_SHARE = 0.02  # of the CPU time that this machine asked for, given to other virtual machines
HOT_C = 80.0  # Raspberry Pi 4 and 5 slow down from 80 C (raspberrypi.com, frequency management)
# vcgencmd get_throttled: bits 0 to 3 say now, 16 to 19 since boot (raspberrypi.com, os documentation, vcgencmd)
_PI_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}

T = TypeVar("T")


@dataclass(frozen=True)
class BeforeAfter(Generic[T]):
    """One reading before a run and one after it."""

    before: T
    after: T


@dataclass(frozen=True)
class Conditions(Settings):
    """The record of a run.

    clocks_mhz:     each core's clock. gpu_mhz: the GPU's.
    temperatures_c: sensor -> degrees Celsius.
    seconds:        length of the run.
    others_cores, steal_share: as in ``Usage``.
    warnings:       what to doubt the figures for, a line each.
    power_w:        mean power of the board while the models ran; None where not available.
    """

    clocks_mhz: BeforeAfter[Sequence[float]]
    gpu_mhz: BeforeAfter[float | None]
    temperatures_c: BeforeAfter[dict[str, float]]
    seconds: float
    others_cores: float | None
    steal_share: float | None
    warnings: list[str]
    power_w: float | None = None


def record_conditions(before: Snapshot, after: Snapshot, fixed: Settings, power_w: float | None = None) -> Conditions:
    """Return the record of a run: settings, both snapshots' readings, what others used, and the warnings."""
    used = compute_usage(before, after)
    return Conditions(
        **vars(fixed),
        clocks_mhz=BeforeAfter(before.clocks_mhz, after.clocks_mhz),
        gpu_mhz=BeforeAfter(before.gpu_mhz, after.gpu_mhz),
        temperatures_c=BeforeAfter(before.temperatures_c, after.temperatures_c),
        seconds=round(after.time_s - before.time_s, 1),
        others_cores=used.others_cores,
        steal_share=used.steal_share,
        warnings=find_warnings(before, after, fixed, used),
        power_w=power_w,
    )


@dataclass(frozen=True)
class Usage:
    """Who else used the CPU: cores that others kept busy on average, share of the time given to other machines."""

    others_cores: float | None
    steal_share: float | None


def compute_usage(before: Snapshot, after: Snapshot) -> Usage:
    """Return what others used between two snapshots; ours is known once its processes have ended."""
    if before.busy_s is None or after.busy_s is None or before.steal_s is None or after.steal_s is None:
        return Usage(None, None)
    busy_s, steal_s = after.busy_s - before.busy_s, after.steal_s - before.steal_s
    others_s = max(busy_s - (after.own_s - before.own_s), 0.0)
    wall_s = max(after.time_s - before.time_s, 1e-9)
    return Usage(round(others_s / wall_s, 3), round(steal_s / max(busy_s + steal_s, 1e-9), 4))


def find_warnings(before: Snapshot, after: Snapshot, fixed: Settings, used: Usage) -> list[str]:
    """Return reasons to doubt the figures, one line each, each with advice."""
    warnings = []
    if fixed.emulator:
        warnings.append(f"{fixed.emulator} emulates the processor: these times are not a board's")
    limit = fixed.clock_max_mhz
    slow = [name for name in fixed.governors if name != "performance" and not fixed.is_clock_fixed]
    if slow:
        warnings.append(
            f"the clock's governor is {', '.join(slow)}, not performance: short runs are measured at lower clocks; "
            "`sudo cpupower frequency-set -g performance` (Jetson: `sudo jetson_clocks`)"
        )
    if used.others_cores is not None and used.others_cores > OTHERS_CORES:
        warnings.append(
            f"other programs kept {used.others_cores:.1f} cores busy meanwhile: end them, or compare ratios only"
        )
    if used.steal_share is not None and used.steal_share > STEAL_SHARE:
        warnings.append(
            f"{100 * used.steal_share:.0f} % of the CPU time went to other virtual machines: compare ratios only"
        )
    if before.throttles is not None and after.throttles is not None and after.throttles > before.throttles:
        warnings.append(f"the CPU was slowed down by heat {after.throttles - before.throttles} times: cool it")
    if before.over_currents is not None and after.over_currents is not None:
        events = after.over_currents - before.over_currents
        if events > 0:
            warnings.append(f"the board was slowed down {events} times for want of power: check its power supply")
    warnings += _find_pi_warnings(before.pi_throttled or 0, after.pi_throttled or 0)
    hottest = max(after.temperatures_c.values(), default=0.0)
    if hottest >= HOT_C:
        warnings.append(f"the hottest sensor is at {hottest:.0f} C: clocks may have been lowered; cool it")
    clock_mhz = max(after.clocks_mhz, default=0.0)
    if not slow and limit and 0 < clock_mhz < 0.9 * limit:
        warnings.append(f"the clock is {clock_mhz:.0f} MHz after the run, of at most {limit:.0f}: something lowers it")
    return warnings


def _find_pi_warnings(before: int, after: int) -> list[str]:
    """Return warnings by a Raspberry Pi's throttling bits; one that was set before the run says nothing of it."""
    here = (before | after) & 15 | (after & ~before) >> 16
    earlier = (after >> 16) & ~here
    warnings = []
    if states := [state for bit, state in _PI_BITS.items() if here >> bit & 1]:
        warnings.append(f"the board says: {', '.join(states)}: cool it and check its power supply")
    if states := [state for bit, state in _PI_BITS.items() if earlier >> bit & 1]:
        warnings.append(
            f"the board had {', '.join(states)} before this run, and cannot say whether again: restart it to be sure"
        )
    return warnings
