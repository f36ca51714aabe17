"""Decide what is missing for a model to run on a machine, and which command installs it.

All facts are passed in (``probe`` and ``this_machine`` collect them), so every board can be tested on any machine.
"""

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
# The newest cuda-python that pip has wheels of for a board: JetPack 5 has Python 3.8 and CUDA 11.4, 6 has 12, 7 has 13.
_CUDA_PYTHON = {"R35": "cuda-python<11.8.4", "R36": "cuda-python<13", "R38": "cuda-python<14", "R39": "cuda-python<14"}
_CPU_ENGINES = tuple(engine for engine in PUBLIC_ENGINES if engine.hardware == "CPU")


@dataclass(frozen=True)
class PythonFacts:
    """The interpreter that runs edgedet.

    venv:           the virtual environment's folder, or None.
    sees_system:    whether it can import packages of the system's Python.
    system_has:     those of SYSTEM_PACKAGES that are installed for the system's Python.
    """

    version: Tuple[int, int, int]
    executable: str
    venv: Optional[str]
    sees_system: bool
    system_has: Tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """Something that is missing or wrong.

    what:   the problem, as the user reads it.
    fix:    the command that mends it, or what to do.
    blocks: whether no model can run before it is mended.
    """

    what: str
    fix: str
    blocks: bool = False


@dataclass(frozen=True)
class Report:
    """The result of ``edgedet doctor``.

    probes:   package -> whether it works.
    video:    name of VIDEO -> whether OpenCV was built with it.
    runs:     suffixes of model files that can run on this machine.
    int8:     package of an engine -> whether INT8 works with it, and how fast.
    findings: what is missing or wrong; those that block come first.
    """

    machine: Machine
    python: PythonFacts
    probes: Dict[str, Probe]
    video: Dict[str, bool]
    runs: Tuple[str, ...]
    int8: Dict[str, str]
    findings: Tuple[Finding, ...]


def diagnose(machine: Machine, python: PythonFacts, probes: Dict[str, Probe]) -> Report:
    """Return what can run on a machine and what is missing, from its hardware, interpreter and packages (PROBES)."""
    video = read_video_support(probes["cv2"].build)
    basics_work = probes["numpy"].works and probes["cv2"].works
    runs = [engine.suffixes[0] for engine in PUBLIC_ENGINES if basics_work and _engine_works(engine, probes)]
    findings = [
        *_check_numpy(probes["numpy"]),
        *_check_opencv(machine, python, probes, video),
        *_check_engines(python, probes),
        *_check_board(machine, python, probes),
    ]
    findings.sort(key=lambda finding: not finding.blocks)
    return Report(machine, python, probes, video, tuple(runs), _describe_int8(machine, probes), tuple(findings))


def read_video_support(build: str) -> Dict[str, bool]:
    """Return, for each name of VIDEO, whether ``cv2.getBuildInformation()`` lists it; {} for an empty text."""
    if not build:
        return {}
    matches = {name: re.search(rf"^\s*{line}:\s*(.*)$", build, re.MULTILINE) for name, line in VIDEO.items()}
    return {name: match is not None and not match[1].startswith(("NO", "NONE")) for name, match in matches.items()}


def _describe_int8(machine: Machine, probes: Dict[str, Probe]) -> Dict[str, str]:
    """Return, for each package of an engine that works, whether INT8 works with it and how fast."""
    fast = " and ".join(name for name, has in machine.features.items() if has and name not in ("FP16", "AVX2"))
    cpu = f"uses {fast}" if fast else "this CPU has no INT8 dot product, so the gain over float is smaller"
    return {
        package.module: _describe_package_int8(package, engine, machine, cpu)
        for engine in PUBLIC_ENGINES
        for package in engine.packages
        if package.int8 and probes[package.module].works
    }


def _describe_package_int8(package: Package, engine: EngineSpec, machine: Machine, cpu: str) -> str:
    if engine.hardware == "GPU" and machine.gpu_int8 is not None:
        return f"yes, {machine.gpu}" if machine.gpu_int8 else f"no: {machine.gpu} has none, take FP16"
    text = package.int8_x86 if machine.arch == "x86_64" and package.int8_x86 else package.int8
    return text.format(cpu=cpu)


def list_system_packages(root: Path, version: Tuple[int, int, int]) -> Tuple[str, ...]:
    """Return those of SYSTEM_PACKAGES that are installed for the system's Python under ``root``."""
    minor = f"python{version[0]}.{version[1]}"
    usr = root / "usr"
    folders = (
        usr / "lib/python3/dist-packages",
        usr / f"lib/{minor}/dist-packages",
        usr / f"lib/{minor}/site-packages",
        usr / f"local/lib/{minor}/dist-packages",
    )
    return tuple(
        name
        for name in SYSTEM_PACKAGES
        if any((folder / name).is_dir() or any(folder.glob(f"{name}.*so")) for folder in folders)
    )


def _check_numpy(numpy: Probe) -> List[Finding]:
    if numpy.works:
        return []
    why = "is not installed" if numpy.state == "missing" else f"does not work: {numpy.reason}"
    return [Finding(f"numpy {why}", "pip install --force-reinstall numpy", blocks=True)]


def _check_opencv(
    machine: Machine, python: PythonFacts, probes: Dict[str, Probe], video: Dict[str, bool]
) -> List[Finding]:
    cv2 = probes["cv2"]
    if cv2.state == "missing":
        fix = _system_command("cv2", python) if machine.is_board else "pip install opencv-python"
        return [Finding("OpenCV is not installed", fix, blocks=True)]
    if not cv2.works:
        return [Finding(f"OpenCV does not load: {cv2.reason}", _choose_opencv_fix(python, probes), blocks=True)]
    if not machine.is_board or video["GStreamer"]:
        return []
    if _is_from_pip(cv2, python):
        command = _system_command("cv2", python)
        return [
            Finding(
                "pip's OpenCV hides the system's, which has GStreamer for the board's cameras",
                f"pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python; {command}",
            )
        ]
    return [Finding("this OpenCV has no GStreamer: the board's cameras may not open", _APT["cv2"])]


def _choose_opencv_fix(python: PythonFacts, probes: Dict[str, Probe]) -> str:
    cv2, reason = probes["cv2"], probes["cv2"].reason or ""
    if re.search(r"libGL|libgthread|libglib", reason):
        return "sudo apt install libgl1 libglib2.0-0"
    if _major_version(probes["numpy"]) >= 2 and re.search(r"numpy|_ARRAY_API", reason):
        return "pip install 'numpy<2'"  # built against numpy 1, as those of JetPack 5 and 6
    if cv2.file is None or _is_from_pip(cv2, python):
        return "pip install --force-reinstall opencv-python"
    return "sudo apt install --reinstall python3-opencv"


def _check_engines(python: PythonFacts, probes: Dict[str, Probe]) -> List[Finding]:
    works = {engine.name: _engine_works(engine, probes) for engine in PUBLIC_ENGINES}
    none_works = not any(works.values())
    recommended = [(engine, engine.packages[0]) for engine in _CPU_ENGINES if engine.packages]
    missing = [
        (engine, package)
        for engine, package in recommended
        if probes[package.module].state == "missing" and python.version >= package.python
    ]
    findings = []
    if none_works and missing:
        findings.append(Finding("no engine runs models here", missing[0][1].install, blocks=True))
    for package in (package for engine in _CPU_ENGINES for package in engine.packages):
        probed, name = probes[package.module], package.distribution
        if probed.state == "wrong":
            problem = f"{name} computes wrong numbers on this CPU: {probed.reason}"
            findings.append(Finding(problem, f"pip install --upgrade {name}", blocks=none_works))
        elif probed.state == "broken":
            needs_old_numpy = package.module == "tflite_runtime" and _major_version(probes["numpy"]) >= 2
            fix = "pip install 'numpy<2'" if needs_old_numpy else f"pip install --force-reinstall {name}"
            findings.append(Finding(f"{name} does not work: {probed.reason}", fix, blocks=none_works))
    for engine, package in missing:
        if "int8" in engine.files and not none_works and not works[engine.name]:
            problem = f"INT8 on a CPU needs {engine.title}, which runs {engine.suffixes[0]} files"
            findings.append(Finding(problem, package.install))
    return findings


def _engine_works(engine: EngineSpec, probes: Dict[str, Probe]) -> bool:
    installed = [probes[package.module] for package in engine.packages if probes[package.module].state != "missing"]
    if engine.packages and not (installed and installed[0].works):  # the first that is installed is the one that runs
        return False
    return all(probes[name].works for name in engine.needs)


def _check_board(machine: Machine, python: PythonFacts, probes: Dict[str, Probe]) -> List[Finding]:
    findings = []
    trt, cuda = probes["tensorrt"], probes["cuda"]
    if machine.gpu and not trt.works:
        why = f"does not work: {trt.reason}" if trt.state == "broken" else "is not installed"
        fix = _system_command("tensorrt", python) if machine.jetpack else "pip install tensorrt"
        for release, (too_old, newer) in _OLD_JETPACK.items():
            if f"{machine.jetpack}.".startswith(f"{release}."):
                why, fix = too_old, newer
        findings.append(Finding(f"TensorRT, for the GPU, {why}", fix))
    elif machine.gpu and not cuda.works:
        why = f"does not work: {cuda.reason}" if cuda.state == "broken" else "is not installed"
        fix = _cuda_command(machine.jetpack)
        findings.append(Finding(f"CUDA for Python, which TensorRT needs, {why}", fix))
    if machine.is_raspberry_pi and (_is_hidden(python, "picamera2") or "picamera2" not in python.system_has):
        command = _system_command("picamera2", python)
        findings.append(Finding("picamera2, for the ribbon cameras, is not there", command))
    if machine.cameras and not any(machine.cameras.values()):
        names = ", ".join(machine.cameras)
        findings.append(Finding(f"this user may not open {names}", "sudo usermod -aG video $USER, then log in again"))
    return findings


def _cuda_command(jetpack: Optional[str]) -> str:
    """Return the command that installs CUDA for Python: pycuda on a Jetson, or a wheel where it does not compile."""
    if jetpack is None:
        return "pip install cuda-python"
    wheel = _CUDA_PYTHON.get(jetpack.split(".")[0])
    return f"{_PYCUDA} (or: pip install '{wheel}')" if wheel else _PYCUDA


def _is_hidden(python: PythonFacts, name: str) -> bool:
    """Return whether the system has the package, but the virtual environment does not see it."""
    return name in python.system_has and python.venv is not None and not python.sees_system


def _system_command(name: str, python: PythonFacts) -> str:
    """Return the commands that install a package of the board's system and let this interpreter import it."""
    steps = [] if name in python.system_has else [_APT[name]]
    if python.venv is not None and not python.sees_system:
        steps.append(f"python3 -m venv --system-site-packages {python.venv}")  # keeps what is installed
    return " && ".join(steps) or _APT[name]


def _is_from_pip(cv2: Probe, python: PythonFacts) -> bool:
    return "dist-packages" not in (cv2.file or "") if python.venv is None else (cv2.file or "").startswith(python.venv)


def _major_version(package: Probe) -> int:
    return int((package.version or "0").split(".")[0])
