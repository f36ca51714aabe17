"""What this machine says of itself now: clocks, heat, power, load. Reads files and asks tools; knows no model.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.machine import machine_of

ROOT = Path("/")
_TOOL_S = 5.0  # for a tool to answer
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


@dataclass(frozen=True)
class Settings:
    """What does not change in a run; None for what this machine does not tell.

    cpu_features: instructions for INT8 and FP16 that the CPU has.
    governors:    of the cores, each name once; clock_min_mhz and clock_max_mhz: the limits that they keep.
    power_mode:   of a Jetson.
    commit:       of the checkout that this code is run from.
    load:         load averages of 1, 5 and 15 minutes.
    """

    board: str | None
    gpu: str | None
    jetpack: str | None
    cpu_features: list[str]
    governors: list[str]
    clock_max_mhz: float | None
    power_mode: str | None
    commit: str | None
    load: list[float] | None
    clock_min_mhz: float | None = None  # results of earlier versions do not have it

    @property
    def is_clock_fixed(self) -> bool:
        """Whether the clock has no room to change; jetson_clocks leaves the governor as it is."""
        return self.clock_max_mhz is not None and self.clock_min_mhz == self.clock_max_mhz


def read_settings(root: Path = ROOT) -> Settings:
    """Return CPU and GPU, limits of the clocks, governor, power mode and commit of this machine."""
    machine = machine_of(root)
    cpufreq = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
    return Settings(
        board=machine.board,
        gpu=machine.gpu,
        jetpack=machine.jetpack,
        cpu_features=[name for name, there in machine.features.items() if there],
        governors=sorted({text for path in root.glob(f"{cpufreq}/scaling_governor") if (text := _text(path))}),
        clock_max_mhz=_first_number(root, f"{cpufreq}/scaling_max_freq", scale=1e-3),
        power_mode=_power_mode(),
        commit=commit(),
        load=list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        clock_min_mhz=_first_number(root, f"{cpufreq}/scaling_min_freq", scale=1e-3),
    )


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
