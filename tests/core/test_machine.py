"""A machine is described by its files under /proc, /sys and /etc: board, cores, clock, GPU, cameras."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.machine import clock_mhz, governor, read_machine

ARM_CPU = "processor\t: {n}\nFeatures\t: {flags}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def arm_cpuinfo(part: str, flags: str) -> str:
    return "".join(ARM_CPU.format(n=n, flags=flags, part=part) for n in range(4))


def test_a_raspberry_pi_5_is_read_from_its_files(tmp_path: Path):
    cpufreq = "sys/devices/system/cpu/cpu0/cpufreq"
    root = write(
        tmp_path,
        {
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/cpuinfo": arm_cpuinfo("0xd0b", "fp asimd asimdhp asimddp cpuid"),
            f"{cpufreq}/scaling_cur_freq": "2400000\n",
            f"{cpufreq}/scaling_governor": "ondemand\n",
            "dev/video0": "",
        },
    )
    machine = read_machine(root, "aarch64")
    assert (machine.board, machine.cpu) == ("Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76")
    assert machine.features == {"dot product": True, "i8mm": False, "FP16": True}
    assert machine.is_board
    assert (machine.gpu, machine.jetpack, machine.gpu_int8) == (None, None, None)
    assert machine.cameras == {"/dev/video0": True}
    assert (clock_mhz(root), governor(root)) == (2400.0, "ondemand")


@pytest.mark.parametrize(
    ("board", "int8"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", True),
        ("NVIDIA Jetson Xavier NX Developer Kit", True),
        ("NVIDIA Jetson Nano Developer Kit", False),
        ("NVIDIA Jetson TX2", False),
        ("NVIDIA Jetson of tomorrow", None),
    ],
)
def test_a_jetsons_gpu_is_told_by_its_board(tmp_path: Path, board: str, int8: bool | None):
    release = "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64"
    files = {"proc/device-tree/model": board, "etc/nv_tegra_release": release}
    machine = read_machine(write(tmp_path, files), "aarch64")
    assert (machine.gpu, machine.jetpack, machine.gpu_int8) == (board, "R36.4.0", int8)


def test_a_pc_is_read_from_its_files(tmp_path: Path):
    root = write(
        tmp_path,
        {
            "sys/class/dmi/id/sys_vendor": "Example\n",
            "sys/class/dmi/id/product_name": "Desk 3\n",
            "proc/cpuinfo": "model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_vnni\ncpu MHz\t\t: 2649.998\n",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA T4\nIRQ: 1\n",
        },
    )
    machine = read_machine(root, "x86_64")
    assert (machine.board, machine.cpu, machine.gpu) == ("Example Desk 3", "AMD EPYC", "NVIDIA T4")
    assert machine.features == {"AVX2": True, "VNNI": True}
    assert not machine.is_board
    assert clock_mhz(root) == 2650.0


def test_big_and_little_cores_are_named_once_each_and_unknown_ones_by_number(tmp_path: Path):
    cpuinfo = arm_cpuinfo("0xd05", "asimddp") + arm_cpuinfo("0xd0b", "asimddp") + arm_cpuinfo("0xfff", "asimddp")
    machine = read_machine(write(tmp_path, {"proc/cpuinfo": cpuinfo}), "aarch64")
    assert machine.cpu == "Cortex-A55 + Cortex-A76 + core 0x41/0xfff"


def test_a_machine_without_any_of_the_files_is_still_described(tmp_path: Path):
    machine = read_machine(tmp_path, "riscv64")
    assert (machine.board, machine.features, machine.cameras) == (None, {}, {})
    assert clock_mhz(tmp_path) is None
