"""Read the machine's present clocks, temperature, power and load, from files and from tools.

A figure is None where the machine does not give it: containers and virtual machines show neither clocks nor heat.
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

from edgedet.machine import read_machine

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


def take_snapshot(root: Path = ROOT) -> Snapshot:
    """Return what the files under ``root``, and on a Raspberry Pi its own tool, say now."""
    busy_s, steal_s = _read_cpu_seconds(root)
    own = os.times()
    return Snapshot(
        time_s=time.monotonic(),
        clocks_mhz=read_clocks_mhz(root),
        gpu_mhz=_read_first_number(
            root, "sys/class/devfreq/*gpu*/cur_freq", "sys/class/devfreq/*.g[vap]*/cur_freq", scale=1e-6
        ),
        temperatures_c=read_temperatures(root),
        throttles=_sum_numbers(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"),
        over_currents=_sum_numbers(root, "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"),  # Jetson Linux Developer Guide
        pi_throttled=_read_pi_throttled(),
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
    emulator:     the program that emulates this machine's processor for ours, as "qemu-aarch64-static"; None for none.
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
    clock_min_mhz: float | None
    emulator: str | None

    @property
    def is_clock_fixed(self) -> bool:
        """Whether the clock has no room to change; jetson_clocks leaves the governor as it is."""
        return self.clock_max_mhz is not None and self.clock_min_mhz == self.clock_max_mhz


def read_settings(root: Path = ROOT) -> Settings:
    """Return CPU and GPU, limits of the clocks, governor, power mode and commit of this machine."""
    machine = read_machine(root)
    cpufreq = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
    return Settings(
        board=machine.board,
        gpu=machine.gpu,
        jetpack=machine.jetpack,
        cpu_features=[name for name, there in machine.features.items() if there],
        governors=sorted({text for path in root.glob(f"{cpufreq}/scaling_governor") if (text := _read_text(path))}),
        clock_max_mhz=_read_first_number(root, f"{cpufreq}/scaling_max_freq", scale=1e-3),
        power_mode=_read_power_mode(),
        commit=read_commit(),
        load=list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        clock_min_mhz=_read_first_number(root, f"{cpufreq}/scaling_min_freq", scale=1e-3),
        emulator=_read_emulator(root),
    )


def read_temperatures(root: Path = ROOT) -> dict[str, float]:
    """Return sensor -> degrees Celsius: thermal zones, and what hwmon adds on PCs."""
    sensors: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name = _read_text(zone / "type") or zone.name
        if not name.startswith(_NO_SENSOR):
            _add_sensor(sensors, name, _read_text(zone / "temp"))
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for sensor in sorted(chip.glob("temp*_input")):
            label = _read_text(chip / sensor.name.replace("_input", "_label")) or sensor.name.replace("_input", "")
            _add_sensor(sensors, f"{_read_text(chip / 'name') or chip.name} {label}", _read_text(sensor))
    return sensors


@contextmanager
def open_power_meter() -> Iterator[Callable[[], float | None]]:
    """Yield a function that returns the board's power in watts, by jetson-stats, at most a second old.

    It returns None where that is not installed or its service does not answer. Reading costs nothing: jtop's own thread
    listens.
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


def read_commit(folder: Path | None = None) -> str | None:
    """Return the commit of the checkout that this code is run from, "+changes" where files differ; None elsewhere."""
    root = folder or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _ask_tool("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    changes = _ask_tool("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return None if head is None else head + ("+changes" if changes else "")


def _read_emulator(root: Path) -> str | None:
    """Return the name of qemu's user-mode emulator if it runs this program.

    It shows the program its own name at /proc/self/exe, but not at /proc/thread-self/exe. Of a whole emulated machine
    nothing is seen here, but its board's name is one of qemu's.
    """
    try:
        name = os.path.basename(os.readlink(root / "proc/thread-self/exe"))
    except OSError:  # not Linux
        return None
    return name if name.startswith("qemu-") else None


def _read_power_mode() -> str | None:
    """Return Jetson's power mode, "15W" or "MAXN_SUPER", by nvpmodel."""
    match = re.search(r"NV Power Mode: *(.+)", _ask_tool("nvpmodel", "-q") or "")
    return match.group(1).strip() if match else None


def _read_pi_throttled() -> int | None:
    answer = _ask_tool("vcgencmd", "get_throttled")
    match = re.search(r"throttled=(0x[0-9a-fA-F]+)", answer or "")
    return int(match.group(1), 16) if match else None


def _ask_tool(tool: str, *arguments: str) -> str | None:
    """Return what a tool prints; None where it is not installed or fails."""
    if shutil.which(tool) is None:
        return None
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read_clocks_mhz(root: Path = ROOT) -> tuple[float, ...]:
    """Return the clock of each core now."""
    paths = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [float(text) / 1e3 for path in sorted(paths) if (text := _read_text(path))]
    if not clocks:
        cpuinfo = _read_text(root / "proc/cpuinfo") or ""
        clocks = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]
    return tuple(round(clock, 1) for clock in clocks)


def _sum_numbers(root: Path, pattern: str) -> int | None:
    values = [int(text) for path in root.glob(pattern) if (text := _read_text(path)) and text.isdigit()]
    return sum(values) if values else None


def _read_cpu_seconds(root: Path) -> tuple[float | None, float | None]:
    """Return (busy, stolen) CPU seconds of all cores since boot, by the first line of /proc/stat (man 5 proc)."""
    match = re.match(r"cpu +(.+)", _read_text(root / "proc/stat") or "")
    if match is None:
        return None, None
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (*map(int, match.group(1).split()), *[0] * 8)
    hertz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hertz, steal / hertz


def _read_first_number(root: Path, *patterns: str, scale: float) -> float | None:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if text := _read_text(path):
                return round(float(text) * scale, 1)
    return None


def _add_sensor(sensors: dict[str, float], name: str, millidegrees: str | None) -> None:
    if millidegrees and millidegrees.lstrip("-").isdigit() and int(millidegrees) > 0:  # 0 or less: no sensor behind it
        sensors[name] = round(int(millidegrees) / 1e3, 1)


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:  # a sensor that is switched off, or no such file
        return None
