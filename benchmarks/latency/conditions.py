"""Under which conditions a figure was measured, and what to doubt it for. Reads files and tools; knows no model.

Everything is None where this machine does not tell it: containers and virtual machines show neither clocks nor heat.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet.machine import machine_of

ROOT = Path("/")
OTHERS_CORES = 0.1  # of a core, used by other programs: more is worth a warning
STEAL_SHARE = 0.02  # of the time wanted, given to other virtual machines
HOT_C = 80.0  # Raspberry Pi 4 and 5 slow down from 80 C (raspberrypi.com, frequency management)
_TOOL_S = 5.0  # for a tool to answer
# vcgencmd get_throttled: bits 0 to 3 say now, 16 to 19 since boot (raspberrypi.com, os documentation, vcgencmd)
_PI_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
_NO_SENSOR = "PMIC"  # a thermal zone of Jetsons that always says 50 or 100 C; jetson-stats leaves it out, too


@dataclass(frozen=True)
class Snapshot:
    """The machine at one moment.

    clocks_mhz:     of each core. gpu_mhz: of the GPU.
    temperatures_c: sensor -> degrees Celsius.
    throttles:      times that x86 cores were slowed down by heat since boot.
    over_currents:  times that a Jetson was slowed down by its power supply since boot.
    pi_throttled:   Raspberry Pi's bits.
    busy_s, steal_s: CPU seconds since boot that all cores were busy, and wanted by this machine but given to others.
    own_s:          CPU seconds of this process and of its children that ended.
    """

    time_s: float
    clocks_mhz: tuple[float, ...]
    gpu_mhz: float | None
    temperatures_c: dict[str, float]
    throttles: int | None
    over_currents: int | None
    pi_throttled: int | None
    busy_s: float | None
    steal_s: float | None
    own_s: float


def snapshot(root: Path = ROOT) -> Snapshot:
    """Return what the files under ``root``, and on a Raspberry Pi its own tool, say now."""
    busy_s, steal_s = _cpu_seconds(root)
    own = os.times()
    return Snapshot(
        time_s=time.monotonic(),
        clocks_mhz=clocks_mhz(root),
        gpu_mhz=_first_number(
            root, "sys/class/devfreq/*gpu*/cur_freq", "sys/class/devfreq/*.g[vap]*/cur_freq", scale=1e-6
        ),
        temperatures_c=temperatures(root),
        throttles=_sum_of(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"),
        over_currents=_sum_of(root, "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"),  # Jetson Linux Developer Guide
        pi_throttled=_pi_throttled(),
        busy_s=busy_s,
        steal_s=steal_s,
        own_s=own.user + own.system + own.children_user + own.children_system,
    )


def settings(root: Path = ROOT) -> dict[str, Any]:
    """Return what does not change in a run: CPU and GPU, limits of the clocks, governor, power mode, commit."""
    machine = machine_of(root)
    cpufreq = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
    governors = sorted({text for path in root.glob(f"{cpufreq}/scaling_governor") if (text := _text(path))})
    return {
        "board": machine.board,
        "gpu": machine.gpu,
        "jetpack": machine.jetpack,
        "cpu_features": [name for name, there in machine.features.items() if there],
        "governors": governors,
        "clock_min_mhz": _first_number(root, f"{cpufreq}/scaling_min_freq", scale=1e-3),
        "clock_max_mhz": _first_number(root, f"{cpufreq}/scaling_max_freq", scale=1e-3),
        "power_mode": _power_mode(),
        "commit": commit(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def conditions(before: Snapshot, after: Snapshot, fixed: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a run: settings, both snapshots' readings, what others used, and the warnings."""
    used = usage(before, after)
    record = {
        **fixed,
        "clocks_mhz": {"before": list(before.clocks_mhz), "after": list(after.clocks_mhz)},
        "gpu_mhz": {"before": before.gpu_mhz, "after": after.gpu_mhz},
        "temperatures_c": {"before": before.temperatures_c, "after": after.temperatures_c},
        "seconds": round(after.time_s - before.time_s, 1),
        **asdict(used),
    }
    return {**record, "warnings": warnings(before, after, fixed, used)}


@dataclass(frozen=True)
class Usage:
    """Who else used the CPU: cores that others kept busy on average, share of the time given to other machines."""

    others_cores: float | None
    steal_share: float | None


def usage(before: Snapshot, after: Snapshot) -> Usage:
    """Return what others used between two snapshots; ours is known once its processes have ended."""
    if before.busy_s is None or after.busy_s is None or before.steal_s is None or after.steal_s is None:
        return Usage(None, None)
    busy_s, steal_s = after.busy_s - before.busy_s, after.steal_s - before.steal_s
    others_s = max(busy_s - (after.own_s - before.own_s), 0.0)
    wall_s = max(after.time_s - before.time_s, 1e-9)
    return Usage(round(others_s / wall_s, 3), round(steal_s / max(busy_s + steal_s, 1e-9), 4))


def warnings(before: Snapshot, after: Snapshot, fixed: dict[str, Any], used: Usage) -> list[str]:
    """Return what to doubt the figures for, one line each, each with what to do."""
    found = []
    limit = fixed["clock_max_mhz"]
    is_fixed = limit is not None and fixed["clock_min_mhz"] == limit  # jetson_clocks leaves the governor as it is
    slow = [name for name in fixed["governors"] if name != "performance" and not is_fixed]
    if slow:
        found.append(
            f"the clock's governor is {', '.join(slow)}, not performance: short runs are measured at lower clocks; "
            "`sudo cpupower frequency-set -g performance` (Jetson: `sudo jetson_clocks`)"
        )
    if used.others_cores is not None and used.others_cores > OTHERS_CORES:
        found.append(
            f"other programs kept {used.others_cores:.1f} cores busy meanwhile: end them, or compare ratios only"
        )
    if used.steal_share is not None and used.steal_share > STEAL_SHARE:
        found.append(
            f"{100 * used.steal_share:.0f} % of the CPU time went to other virtual machines: compare ratios only"
        )
    if before.throttles is not None and after.throttles is not None and after.throttles > before.throttles:
        found.append(f"the CPU was slowed down by heat {after.throttles - before.throttles} times: cool it")
    if before.over_currents is not None and after.over_currents is not None:
        events = after.over_currents - before.over_currents
        if events > 0:
            found.append(f"the board was slowed down {events} times for want of power: check its power supply")
    found += _pi_warnings(before.pi_throttled or 0, after.pi_throttled or 0)
    hottest = max(after.temperatures_c.values(), default=0.0)
    if hottest >= HOT_C:
        found.append(f"the hottest sensor is at {hottest:.0f} C: clocks may have been lowered; cool it")
    clocks = [max(one.clocks_mhz, default=0.0) for one in (before, after)]
    if not slow and limit and 0 < clocks[1] < 0.9 * limit:
        found.append(f"the clock is {clocks[1]:.0f} MHz after the run, of at most {limit:.0f}: something lowers it")
    return found


def _pi_warnings(before: int, after: int) -> list[str]:
    """Return what a Raspberry Pi's bits say of a run; a bit that was set since boot already tells nothing new."""
    here = (before | after) & 15 | (after & ~before) >> 16
    earlier = (after >> 16) & ~here
    found = []
    if said := [what for bit, what in _PI_BITS.items() if here >> bit & 1]:
        found.append(f"the board says: {', '.join(said)}: cool it and check its power supply")
    if said := [what for bit, what in _PI_BITS.items() if earlier >> bit & 1]:
        found.append(
            f"the board had {', '.join(said)} before this run, and cannot say whether again: restart it to be sure"
        )
    return found


def temperatures(root: Path = ROOT) -> dict[str, float]:
    """Return sensor -> degrees Celsius: thermal zones, and what hwmon adds on PCs."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name = _text(zone / "type") or zone.name
        if not name.startswith(_NO_SENSOR):
            _add(found, name, _text(zone / "temp"))
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for sensor in sorted(chip.glob("temp*_input")):
            label = _text(chip / sensor.name.replace("_input", "_label")) or sensor.name.removesuffix("_input")
            _add(found, f"{_text(chip / 'name') or chip.name} {label}", _text(sensor))
    return found


@contextmanager
def power_meter() -> Iterator[Callable[[], float | None]]:
    """Yield what returns the board's power in watts, at most a second old, by jetson-stats.

    None where that is not installed or its service is mute. Reading costs nothing: jtop has a thread that listens.
    """
    with ExitStack() as held:
        board: Any = None
        with suppress(Exception):  # jtop has its own exceptions, for a service that does not run among others
            from jtop import jtop  # type: ignore[import-not-found]

            board = held.enter_context(jtop())

        def power_w() -> float | None:
            try:
                board.ok(spin=True)  # raises where the service went away
                return float(board.power["tot"]["power"]) / 1e3  # mW
            except Exception:  # as above; a board without power sensors has no "tot"
                return None

        yield power_w


def commit(folder: Path | None = None) -> str | None:
    """Return the commit of the checkout that this code is run from, "+changes" where files differ; None elsewhere."""
    root = folder or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _said("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    changes = _said("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return None if head is None else head + ("+changes" if changes else "")


def _power_mode() -> str | None:
    """Return Jetson's power mode, "15W" or "MAXN_SUPER", by nvpmodel."""
    found = re.search(r"NV Power Mode: *(.+)", _said("nvpmodel", "-q") or "")
    return found.group(1).strip() if found else None


def _pi_throttled() -> int | None:
    said = _said("vcgencmd", "get_throttled")
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", said or "")
    return int(found.group(1), 16) if found else None


def _said(tool: str, *arguments: str) -> str | None:
    """Return what a tool prints; None where it is not installed or fails."""
    if shutil.which(tool) is None:
        return None
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def clocks_mhz(root: Path = ROOT) -> tuple[float, ...]:
    """Return the clock of each core now."""
    paths = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [float(text) / 1e3 for path in sorted(paths) if (text := _text(path))]
    if not clocks:
        cpuinfo = _text(root / "proc/cpuinfo") or ""
        clocks = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]
    return tuple(round(clock, 1) for clock in clocks)


def _sum_of(root: Path, pattern: str) -> int | None:
    values = [int(text) for path in root.glob(pattern) if (text := _text(path)) and text.isdigit()]
    return sum(values) if values else None


def _cpu_seconds(root: Path) -> tuple[float | None, float | None]:
    """Return (busy, stolen) CPU seconds of all cores since boot, by the first line of /proc/stat (man 5 proc)."""
    found = re.match(r"cpu +(.+)", _text(root / "proc/stat") or "")
    if found is None:
        return None, None
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (*map(int, found.group(1).split()), *[0] * 8)
    hertz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hertz, steal / hertz


def _first_number(root: Path, *patterns: str, scale: float) -> float | None:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if text := _text(path):
                return round(float(text) * scale, 1)
    return None


def _add(found: dict[str, float], name: str, millidegrees: str | None) -> None:
    if millidegrees and millidegrees.lstrip("-").isdigit() and int(millidegrees) > 0:  # 0 or less: no sensor behind it
        found[name] = round(int(millidegrees) / 1e3, 1)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:  # a sensor that is switched off, or no such file
        return None
