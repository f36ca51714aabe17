"""Read which machine this is from the kernel's files: board, CPU and its INT8 features, GPU, cameras."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

# feature -> flags of /proc/cpuinfo, any of which shows it (Linux: arm64/kernel/cpuinfo.c, x86/cpufeatures.h).
# All but FP16 are instructions that multiply INT8 numbers; LiteRT's kernels use those that the CPU has.
FEATURES: Dict[str, Dict[str, Tuple[str, ...]]] = {
    "aarch64": {"dot product": ("asimddp",), "i8mm": ("i8mm",), "FP16": ("asimdhp",)},
    "x86_64": {"AVX2": ("avx2",), "VNNI": ("avx512_vnni", "avx_vnni")},
}
# (implementer, part) of /proc/cpuinfo -> name, for kernels without "model name" (util-linux: sys-utils/lscpu-arm.c)
_ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
}
# Whether a Jetson's GPU has INT8: the first name that the board's name contains decides, so "Orin" precedes "Nano".
_JETSON_INT8 = (("Orin", True), ("Xavier", True), ("Thor", True), ("Nano", False), ("TX1", False), ("TX2", False))


@dataclass(frozen=True)
class Machine:
    """One machine, as its kernel describes it.

    board:    "Raspberry Pi 5 Model B Rev 1.0", "NVIDIA Jetson Orin Nano Developer Kit", or a PC's maker and product.
    cpu:      the processor's name.
    arch:     "aarch64", "x86_64", ...
    features: name -> whether the CPU has it; those of FEATURES for this arch.
    gpu:      NVIDIA GPU, or None.
    jetpack:  the release of Jetson's system (L4T), for example "R36.4.0", or None.
    gpu_int8: whether the GPU multiplies INT8 numbers; None where that is not known, or there is none.
    cameras:  /dev/videoN -> whether this user may open it.
    """

    board: Optional[str]
    cpu: str
    arch: str
    cores: int
    features: Dict[str, bool]
    gpu: Optional[str]
    jetpack: Optional[str]
    gpu_int8: Optional[bool]
    cameras: Dict[str, bool]

    @property
    def is_board(self) -> bool:
        """Whether this is a board whose system brings packages that pip does not have."""
        return self.jetpack is not None or self.is_raspberry_pi

    @property
    def is_raspberry_pi(self) -> bool:
        """Whether this is a Raspberry Pi."""
        return "Raspberry Pi" in (self.board or "")


def read_machine(root: Path = Path("/"), arch: Optional[str] = None) -> Machine:
    """Return the machine that the kernel's files under ``root`` describe; ``arch`` defaults to that of this machine."""
    arch = arch or platform.machine()
    cpuinfo = _read_text(root / "proc/cpuinfo") or ""
    board = _read_board(root)
    jetpack = _parse_l4t(_read_text(root / "etc/nv_tegra_release"))
    gpu = board if jetpack else _read_pc_gpu(root)
    int8 = next((has for name, has in _JETSON_INT8 if name in (board or "")), None) if jetpack else None
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)).split())
    return Machine(
        board=board,
        cpu=_parse_cpu(cpuinfo) or platform.processor() or arch,
        arch=arch,
        cores=os.cpu_count() or 1,
        features={name: not flags.isdisjoint(any_of) for name, any_of in FEATURES.get(arch, {}).items()},
        gpu=gpu,
        jetpack=jetpack,
        gpu_int8=int8,
        cameras={f"/dev/{path.name}": os.access(path, os.R_OK | os.W_OK) for path in sorted(root.glob("dev/video*"))},
    )


def clock_mhz(root: Path = Path("/")) -> Optional[float]:
    """Return the current clock of the first core in MHz; None where the kernel does not give it."""
    khz = _read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    mhz = float(khz) / 1e3 if khz else float(_parse_field(_read_text(root / "proc/cpuinfo") or "", "cpu MHz") or 0)
    return round(mhz, 1) or None


def governor(root: Path = Path("/")) -> Optional[str]:
    """Return the name of the kernel's policy for the first core's clock, such as "ondemand" or "performance"."""
    return _read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _read_board(root: Path) -> Optional[str]:
    tree = _read_text(root / "proc/device-tree/model")
    if tree:
        return tree
    dmi = [_read_text(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    return " ".join(text for text in dmi if text) or None


def _parse_cpu(cpuinfo: str) -> Optional[str]:
    name = _parse_field(cpuinfo, "model name")
    implementers, parts = (
        [int(value, 16) for value in re.findall(rf"^{key}\s*:\s*(0x[0-9a-fA-F]+)", cpuinfo, re.MULTILINE)]
        for key in ("CPU implementer", "CPU part")
    )
    cores = dict.fromkeys(zip(implementers, parts))  # big.LITTLE has two kinds
    return name or " + ".join(_ARM_CORES.get(core, f"core 0x{core[0]:02x}/0x{core[1]:03x}") for core in cores) or None


def _parse_l4t(release: Optional[str]) -> Optional[str]:
    """Return "R36.4.0" for "# R36 (release), REVISION: 4.0, GCID: ..."."""
    if release is None:
        return None
    match = re.search(r"(R\d+) \(release\), REVISION: ([\d.]+)", release)
    return ".".join(match.groups()) if match else release.splitlines()[0]


def _read_pc_gpu(root: Path) -> Optional[str]:
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        return _parse_field(_read_text(path) or "", "Model") or "NVIDIA GPU"
    return None


def _parse_field(text: str, key: str) -> Optional[str]:
    match = re.search(rf"^{re.escape(key)}\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return match.group(1) if match else None


def _read_text(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().rstrip("\0") or None
    except OSError:  # this machine has no such file
        return None
