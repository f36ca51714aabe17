"""What `edgedet bench` records of boards, on simulated ones: trees of files, tools on PATH, and a jtop of our own.

No board is here. The texts are as their makers give them: Raspberry Pi's documentation of vcgencmd, NVIDIA's Jetson
Linux Developer Guide for nvpmodel and hwmon, and jetson-stats 4 (jtop/core/power.py, jtop/core/temperature.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgedet.benchmarks.latency.bench import _with_power
from edgedet.benchmarks.latency.conditions import Conditions, record_conditions
from edgedet.benchmarks.latency.sensors import Snapshot, open_power_meter, read_settings, take_snapshot
from edgedet.benchmarks.latency.sustain import sustain
from edgedet.benchmarks.latency.table import describe_conditions
from edgedet.types import Frame

CPUFREQ = "sys/devices/system/cpu/cpu{core}/cpufreq"
THERMAL = "sys/class/thermal/thermal_zone{zone}"
PI = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0", "proc/stat": "cpu  1000 0 500 9000 0 0 0 0 0 0\n"}
JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "proc/stat": "cpu  1000 0 500 9000 0 0 0 0 0 0\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
}
WATTS_OF_ORIN = {  # jetson-stats 4: mW; the total is VDD_IN's
    "rail": {"VDD_CPU_GPU_CV": {"volt": 4904, "curr": 1632, "power": 8003, "avg": 7805}},
    "tot": {"volt": 4888, "curr": 2904, "power": 14194, "avg": 13897, "name": "VDD_IN"},
}


def cpus(governor: str, least: int, most: int, now: int, cores: int = 4) -> dict[str, str]:
    """Return files of cores, clocks in kHz."""
    found = {}
    for core in range(cores):
        folder = CPUFREQ.format(core=core)
        found[f"{folder}/scaling_governor"] = f"{governor}\n"
        for name, value in (("min", least), ("max", most), ("cur", now)):
            found[f"{folder}/scaling_{name}_freq"] = f"{value}\n"
    return found


def zones(**sensors: str) -> dict[str, str]:
    """Return files of thermal zones, "cpu_thermal" for the sensor cpu-thermal."""
    found = {}
    for zone, (name, text) in enumerate(sensors.items()):
        found[f"{THERMAL.format(zone=zone)}/type"] = f"{name.replace('_', '-')}\n"
        found[f"{THERMAL.format(zone=zone)}/temp"] = text
    return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what writes a simulated machine: files below a root, and tools by what they print."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def write(files: dict[str, str], **tools: str) -> Path:
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for tool, says in tools.items():
            path = tmp_path / "bin" / tool
            path.write_text(f"#!/bin/sh\n{says}\n")
            path.chmod(0o755)
        return tmp_path / "root"

    return write


def recorded(root: Path, before: Snapshot | None = None) -> Conditions:
    """Return the record of a run that began with ``before`` and ends now."""
    return record_conditions(before or take_snapshot(root), take_snapshot(root), read_settings(root))


def test_a_simulated_raspberry_pi_5_is_recorded(machine):
    files = {**PI, **cpus("ondemand", 1500000, 2400000, 2400000), **zones(cpu_thermal="61700\n")}
    found = recorded(machine(files, vcgencmd="echo throttled=0x0"))
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found.governors, found.clock_min_mhz, found.clock_max_mhz) == (["ondemand"], 1500.0, 2400.0)
    assert found.clocks_mhz.after == (2400.0,) * 4
    assert found.temperatures_c.after == {"cpu-thermal": 61.7}
    assert (found.power_mode, found.gpu) == (None, None)
    (warning,) = found.warnings
    assert warning.startswith("the clock's governor is ondemand, not performance")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("0x0", "0x50005", "the board says: under-voltage, throttled: cool it and check its power supply"),
        ("0x0", "0x50000", "the board says: under-voltage, throttled: cool it and check its power supply"),
        ("0x8", "0x80000", "the board says: soft temperature limit: cool it and check its power supply"),
        ("0x20000", "0x20000", "the board had clock capped before this run, and cannot say whether again"),
        ("0x0", "0x0", None),
    ],
    ids=["now", "over by its end", "at its start", "since boot", "never"],
)
def test_a_simulated_raspberry_pi_that_throttles_is_doubted(machine, before: str, after: str, says: str | None):
    files = {**PI, **cpus("performance", 1500000, 2400000, 2400000)}
    first = take_snapshot(machine(files, vcgencmd=f"echo throttled={before}"))
    found = recorded(machine(files, vcgencmd=f"echo throttled={after}"), first).warnings
    assert [text.startswith(says or "") for text in found] == [True] * (says is not None)


def test_a_raspberry_pi_that_may_not_ask_its_firmware_is_recorded_without(machine):
    """As a user outside the group video: vcgencmd fails."""
    root = machine({**PI, **cpus("performance", 1500000, 2400000, 2400000)}, vcgencmd="echo 'VCHI failed' >&2; exit 1")
    assert take_snapshot(root).pi_throttled is None
    assert recorded(root).warnings == []


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("echo 'NV Power Mode: MAXN'; echo 0", "MAXN"),
        ("echo 'NVPM WARN: fan mode is not set!'; echo 'NV Power Mode: MODE_15W_6CORE'; echo 2", "MODE_15W_6CORE"),
        ("echo 'NV Power Mode: 15W DESKTOP'; echo 6", "15W DESKTOP"),
        ("echo 'NVPM ERROR: failed to read PARAM ARG'; exit 255", None),
    ],
)
def test_the_power_mode_of_a_simulated_jetson(machine, said: str, mode: str | None):
    assert read_settings(machine(JETSON, nvpmodel=said)).power_mode == mode


@pytest.mark.parametrize(
    ("program", "emulator"), [("/usr/bin/qemu-aarch64-static", "qemu-aarch64-static"), ("/usr/bin/python3.11", None)]
)
def test_an_emulated_processor_is_doubted(machine, program: str, emulator: str | None):
    root = machine(PI)
    (root / "proc/thread-self").mkdir()
    (root / "proc/thread-self/exe").symlink_to(program)
    found = recorded(root)
    assert found.emulator == emulator
    assert [line.endswith("these times are not a board's") for line in found.warnings] == [True] * bool(emulator)


def test_a_simulated_jetson_is_recorded(machine):
    """A zone that is switched off says -256 C, and the power chip's zone is no sensor: it says 50 or 100 C for ever."""
    sensors = zones(cpu_thermal="48250\n", gpu_thermal="47593\n", cv0_thermal="-256000\n", PMIC_Die="100000\n")
    files = {**JETSON, **cpus("schedutil", 729600, 1728000, 729600, cores=6), **sensors}
    found = recorded(machine(files, nvpmodel="echo 'NV Power Mode: MAXN_SUPER'; echo 2"))
    assert found.board == found.gpu == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (found.jetpack, found.power_mode) == ("R36.4.3", "MAXN_SUPER")
    assert asdict(found.gpu_mhz) == {"before": 1020.0, "after": 1020.0}
    assert found.temperatures_c.before == {"cpu-thermal": 48.2, "gpu-thermal": 47.6}
    (warning,) = found.warnings
    assert "governor is schedutil" in warning
    assert "jetson_clocks" in warning


def test_a_jetson_whose_clocks_are_fixed_has_no_doubtful_governor(machine):
    """jetson_clocks raises the least clock to the most and leaves the governor's name."""
    assert recorded(machine({**JETSON, **cpus("schedutil", 1728000, 1728000, 1728000)})).warnings == []


def test_heat_and_want_of_power_on_a_simulated_jetson_are_doubted(machine):
    hwmon = "sys/class/hwmon/hwmon1"
    files = {**JETSON, **cpus("performance", 729600, 1728000, 1728000), **zones(tj_thermal="70000\n")}
    counts = {f"{hwmon}/oc1_event_cnt": "1\n", f"{hwmon}/oc3_event_cnt": "0\n"}
    first = take_snapshot(machine({**files, **counts}))
    files.update({f"{hwmon}/oc3_event_cnt": "3\n", **zones(tj_thermal="98500\n")})
    files.update(cpus("performance", 729600, 1728000, 1200000))
    assert recorded(machine(files), first).warnings == [
        "the board was slowed down 3 times for want of power: check its power supply",
        "the hottest sensor is at 98 C: clocks may have been lowered; cool it",
        "the clock is 1200 MHz after the run, of at most 1728: something lowers it",
    ]


def test_other_load_on_a_simulated_board_is_doubted(machine):
    """By /proc/stat, 3000 more ticks of 10 ms were busy, 1000 stolen: next to nothing of it was ours."""
    first = take_snapshot(machine(PI))
    found = recorded(machine({**PI, "proc/stat": "cpu  3500 0 1000 9000 0 0 0 1000 0 0\n"}), first)
    assert found.steal_share == pytest.approx(0.25)
    assert found.others_cores > 1
    assert ["other programs kept" in text for text in found.warnings] == [True, False]
    assert "25 % of the CPU time went to other virtual machines" in found.warnings[1]


# --- power ------------------------------------------------------------------------------------------------------


class SimulatedJtop(AbstractContextManager["SimulatedJtop"]):
    """jetson-stats 4 as far as it is used: entering fails without its service, ``ok`` raises once that has gone."""

    power: dict[str, Any] = WATTS_OF_ORIN
    fails_to_open = fails_later = False

    def __enter__(self) -> SimulatedJtop:
        if self.fails_to_open:
            raise OSError("The jtop.service is not active. Please run: sudo systemctl restart jtop.service")
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def ok(self, spin: bool = False) -> bool:
        assert spin  # else it waits for the next reading
        if self.fails_later:
            raise OSError("Lost connection with jtop server")
        return True


def with_jtop(monkeypatch: pytest.MonkeyPatch, **differs: Any) -> None:
    module = ModuleType("jtop")
    module.jtop = type("jtop", (SimulatedJtop,), differs)
    monkeypatch.setitem(sys.modules, "jtop", module)


@pytest.mark.parametrize(
    ("differs", "watts"),
    [
        ({}, 14.194),
        ({"power": {}}, None),  # a board without power sensors
        ({"fails_to_open": True}, None),
        ({"fails_later": True}, None),
    ],
)
def test_power_by_a_simulated_jtop(monkeypatch, differs: dict[str, Any], watts: float | None):
    with_jtop(monkeypatch, **differs)
    with open_power_meter() as power_w:
        assert power_w() == watts


def test_power_is_not_available_without_jtop(monkeypatch):
    monkeypatch.setitem(sys.modules, "jtop", None)
    with open_power_meter() as power_w:
        assert power_w() is None


def test_power_is_read_after_each_round_and_missing_readings_are_left_out():
    watts: list[float] = []
    readings = iter([10.0, None, 14.0])
    assert list(_with_power(iter(range(3)), lambda: next(readings), watts)) == [0, 1, 2]
    assert watts == [10.0, 14.0]


def test_a_long_run_has_the_power_of_each_window(monkeypatch):
    """Frames of 0.5 s and windows of 1 s: four frames are two windows of two frames a second."""
    with_jtop(monkeypatch)
    now = [0.0]

    def run(frame: Frame) -> dict[str, float]:
        now[0] += 0.5
        return {}

    found = sustain(run, [Frame(np.zeros((1, 1, 3), np.uint8), 0.0, 0)], 2.0, clock=lambda: now[0])
    assert [(window.t_s, window.fps, window.power_w) for window in found.windows] == [(1, 2, 14.194), (2, 2, 14.194)]
    assert found.kept == 1.0


def test_what_is_not_known_is_said_to_be_not_available(machine):
    (clocks, _) = describe_conditions(recorded(machine({})))
    assert "governor not available; power mode not available; power not available" in clocks
