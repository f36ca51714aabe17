"""What is missing for a model to run here, and the command that brings it. Decides from facts; asks no system."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ..engines.table import PUBLIC_ENGINES, EngineSpec, Package
from ..machine import Machine
from .probe import Probe

SYSTEM_PACKAGES = ("cv2", "tensorrt", "picamera2")  # what boards ship outside pip
VIDEO = {"GStreamer": r"GStreamer", "V4L2": r"v4l/v4l2", "FFMPEG": r"FFMPEG", "window": r"GUI"}  # name -> line of cv2's
_APT = {
    "cv2": "sudo apt install python3-opencv",
    "picamera2": "sudo apt install python3-picamera2",
    "tensorrt": "sudo apt install python3-libnvinfer",
}
# Releases of Jetson Linux whose TensorRT is too old, and what helps.
_OLD_JETPACK = {
    "R32": ("of JetPack 4 is too old", "run .onnx or .tflite files: this board gets no newer one"),
    "R34": ("of JetPack 5.0 is too old", "install JetPack 5.1 or newer (docs/jetson.md)"),
    "R35.1": ("of JetPack 5.0 is too old", "install JetPack 5.1 or newer (docs/jetson.md)"),
}
# Seen in pycuda's setup.py: it finds CUDA's headers and libraries beside nvcc.
_PYCUDA = "sudo apt install build-essential python3-dev && PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
# What pip has wheels of for a board's Python and CUDA: JetPack 5 has Python 3.8 and CUDA 11.4, 6 has 12, 7 has 13.
_CUDA_PYTHON = {"R35": "cuda-python<11.8.4", "R36": "cuda-python<13", "R38": "cuda-python<14", "R39": "cuda-python<14"}
_CPU_ENGINES = tuple(engine for engine in PUBLIC_ENGINES if engine.hardware == "CPU")


@dataclass(frozen=True)
class PythonFacts:
    """The interpreter that runs edgedet.

    venv:           the virtual environment's folder, or None.
    sees_system:    whether it sees packages of the system's Python.
    system_has:     those of SYSTEM_PACKAGES that the system's Python has.
    """

    version: Tuple[int, int, int]
    executable: str
    venv: Optional[str]
    sees_system: bool
    system_has: Tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """Something that is missing or wrong.

    fix:    the command that mends it, or what to do.
    blocks: whether no model can run before it is mended.
    """

    what: str
    fix: str
    blocks: bool = False


@dataclass(frozen=True)
class Report:
    """All that ``edgedet doctor`` found.

    probes:   package -> what was found out about it.
    video:    what OpenCV was built with, names of VIDEO.
    runs:     suffixes of model files that can run here.
    int8:     package of an engine -> what INT8 means with it.
    findings: what is missing, first what blocks.
    """

    machine: Machine
    python: PythonFacts
    probes: Dict[str, Probe]
    video: Dict[str, bool]
    runs: Tuple[str, ...]
    int8: Dict[str, str]
    findings: Tuple[Finding, ...]


def report_of(machine: Machine, python: PythonFacts, probes: Dict[str, Probe]) -> Report:
    """Return what the facts mean."""
    video = video_of(probes["cv2"].build)
    able = probes["numpy"].works and probes["cv2"].works
    runs = [engine.suffixes[0] for engine in PUBLIC_ENGINES if able and _engine_works(engine, probes)]
    findings = [
        *_numpy(probes["numpy"]),
        *_opencv(machine, python, probes, video),
        *_engines(python, probes),
        *_board(machine, python, probes),
    ]
    findings.sort(key=lambda finding: not finding.blocks)
    return Report(machine, python, probes, video, tuple(runs), int8_of(machine, probes), tuple(findings))


def video_of(build: str) -> Dict[str, bool]:
    """Return which of VIDEO OpenCV has, from ``cv2.getBuildInformation()``; {} without it."""
    if not build:
        return {}
    found = {name: re.search(rf"^\s*{line}:\s*(.*)$", build, re.MULTILINE) for name, line in VIDEO.items()}
    return {name: match is not None and not match[1].startswith(("NO", "NONE")) for name, match in found.items()}


def int8_of(machine: Machine, probes: Dict[str, Probe]) -> Dict[str, str]:
    """Return what INT8 means with each package of an engine that works."""
    fast = " and ".join(name for name, there in machine.features.items() if there and name not in ("FP16", "AVX2"))
    cpu = f"uses {fast}" if fast else "this CPU has no INT8 dot product, so the gain over float is smaller"
    return {
        package.module: _int8_with(package, engine, machine, cpu)
        for engine in PUBLIC_ENGINES
        for package in engine.packages
        if package.int8 and probes[package.module].works
    }


def _int8_with(package: Package, engine: EngineSpec, machine: Machine, cpu: str) -> str:
    if engine.hardware == "GPU" and machine.gpu_int8 is not None:
        return f"yes, {machine.gpu}" if machine.gpu_int8 else f"no: {machine.gpu} has none, take FP16"
    text = package.int8_x86 if machine.arch == "x86_64" and package.int8_x86 else package.int8
    return text.format(cpu=cpu)


def system_packages(root: Path, version: Tuple[int, int, int]) -> Tuple[str, ...]:
    """Return those of SYSTEM_PACKAGES that lie in the folders of the system's Python under ``root``."""
    minor = f"python{version[0]}.{version[1]}"
    folders = [
        root / "usr" / place
        for place in (
            "lib/python3/dist-packages", f"lib/{minor}/dist-packages", f"lib/{minor}/site-packages",
            f"local/lib/{minor}/dist-packages",
        )
    ]  # fmt: skip
    return tuple(
        name
        for name in SYSTEM_PACKAGES
        if any((folder / name).is_dir() or any(folder.glob(f"{name}.*so")) for folder in folders)
    )


def _numpy(numpy: Probe) -> List[Finding]:
    if numpy.works:
        return []
    why = "is not installed" if numpy.state == "missing" else f"does not work: {numpy.reason}"
    return [Finding(f"numpy {why}", "pip install --force-reinstall numpy", blocks=True)]


def _opencv(
    machine: Machine, python: PythonFacts, probes: Dict[str, Probe], video: Dict[str, bool]
) -> List[Finding]:  # fmt: skip
    cv2 = probes["cv2"]
    if cv2.state == "missing":
        fix = _from_system("cv2", python) if machine.is_board else "pip install opencv-python"
        return [Finding("OpenCV is not installed", fix, blocks=True)]
    if not cv2.works:
        return [Finding(f"OpenCV does not load: {cv2.reason}", _opencv_fix(python, probes), blocks=True)]
    if not machine.is_board or video["GStreamer"]:
        return []
    if _is_pips(cv2, python):
        how = _from_system("cv2", python)
        return [
            Finding(
                "pip's OpenCV hides the system's, which has GStreamer for the board's cameras",
                f"pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python; {how}",
            )
        ]
    return [Finding("this OpenCV has no GStreamer: the board's cameras may not open", _APT["cv2"])]


def _opencv_fix(python: PythonFacts, probes: Dict[str, Probe]) -> str:
    cv2, reason = probes["cv2"], probes["cv2"].reason or ""
    if re.search(r"libGL|libgthread|libglib", reason):
        return "sudo apt install libgl1 libglib2.0-0"
    if _major(probes["numpy"]) >= 2 and re.search(r"numpy|_ARRAY_API", reason):
        return "pip install 'numpy<2'"  # built against numpy 1, as those of JetPack 5 and 6
    if cv2.file is None or _is_pips(cv2, python):
        return "pip install --force-reinstall opencv-python"
    return "sudo apt install --reinstall python3-opencv"


def _engines(python: PythonFacts, probes: Dict[str, Probe]) -> List[Finding]:
    works = {engine.name: _engine_works(engine, probes) for engine in PUBLIC_ENGINES}
    nothing = not any(works.values())
    best = [(engine, engine.packages[0]) for engine in _CPU_ENGINES if engine.packages]
    missing = [
        (engine, package)
        for engine, package in best
        if probes[package.module].state == "missing" and python.version >= package.python
    ]
    findings = []
    if nothing and missing:
        findings.append(Finding("no engine runs models here", missing[0][1].install, blocks=True))
    for package in (package for engine in _CPU_ENGINES for package in engine.packages):
        found, name = probes[package.module], package.distribution
        if found.state == "wrong":
            what = f"{name} computes wrong numbers on this CPU: {found.reason}"
            findings.append(Finding(what, f"pip install --upgrade {name}", blocks=nothing))
        elif found.state == "broken":
            old_numpy = package.module == "tflite_runtime" and _major(probes["numpy"]) >= 2
            fix = "pip install 'numpy<2'" if old_numpy else f"pip install --force-reinstall {name}"
            findings.append(Finding(f"{name} does not work: {found.reason}", fix, blocks=nothing))
    for engine, package in missing:
        if "int8" in engine.files and not nothing and not works[engine.name]:
            what = f"INT8 on a CPU needs {engine.title}, which runs {engine.suffixes[0]} files"
            findings.append(Finding(what, package.install))
    return findings


def _engine_works(engine: EngineSpec, probes: Dict[str, Probe]) -> bool:
    installed = [probes[package.module] for package in engine.packages if probes[package.module].state != "missing"]
    if engine.packages and not (installed and installed[0].works):  # the first that is installed is the one that runs
        return False
    return all(probes[name].works for name in engine.needs)


def _board(machine: Machine, python: PythonFacts, probes: Dict[str, Probe]) -> List[Finding]:
    findings = []
    trt, cuda = probes["tensorrt"], probes["cuda"]
    if machine.gpu and not trt.works:
        why = f"does not work: {trt.reason}" if trt.state == "broken" else "is not installed"
        fix = _from_system("tensorrt", python) if machine.jetpack else "pip install tensorrt"
        for release, (too_old, newer) in _OLD_JETPACK.items():
            if f"{machine.jetpack}.".startswith(f"{release}."):
                why, fix = too_old, newer
        findings.append(Finding(f"TensorRT, for the GPU, {why}", fix))
    elif machine.gpu and not cuda.works:
        why = f"does not work: {cuda.reason}" if cuda.state == "broken" else "is not installed"
        fix = _cuda_command(machine.jetpack)
        findings.append(Finding(f"CUDA for Python, which TensorRT needs, {why}", fix))
    if machine.is_raspberry_pi and (hidden(python, "picamera2") or "picamera2" not in python.system_has):
        findings.append(Finding("picamera2, for the ribbon cameras, is not there", _from_system("picamera2", python)))
    if machine.cameras and not any(machine.cameras.values()):
        names = ", ".join(machine.cameras)
        findings.append(Finding(f"this user may not open {names}", "sudo usermod -aG video $USER, then log in again"))
    return findings


def _cuda_command(jetpack: Optional[str]) -> str:
    """Return what installs CUDA for Python: pycuda on a Jetson, or where it does not compile, wheels that fit."""
    if jetpack is None:
        return "pip install cuda-python"
    wheel = _CUDA_PYTHON.get(jetpack.split(".")[0])
    return f"{_PYCUDA} (or: pip install '{wheel}')" if wheel else _PYCUDA


def hidden(python: PythonFacts, name: str) -> bool:
    """Return whether the system has the package, but the virtual environment does not look there."""
    return name in python.system_has and python.venv is not None and not python.sees_system


def _from_system(name: str, python: PythonFacts) -> str:
    """Return the commands by which a package of the board's system is seen here."""
    look = f"python3 -m venv --system-site-packages {python.venv}"  # keeps what is installed
    steps = [] if name in python.system_has else [_APT[name]]
    if python.venv is not None and not python.sees_system:
        steps.append(look)
    return " && ".join(steps) or _APT[name]


def _is_pips(cv2: Probe, python: PythonFacts) -> bool:
    return "dist-packages" not in (cv2.file or "") if python.venv is None else (cv2.file or "").startswith(python.venv)


def _major(found: Probe) -> int:
    return int((found.version or "0").split(".")[0])
