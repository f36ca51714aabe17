"""Bring NVIDIA's ONNX parser of TensorRT 8.5 or 8.6 and the simulated network together as a program.

The parser and the libraries that it loads come from PyPI's wheels (549 to 819 MB; what is kept takes 290 to 540 MB).
The public headers NvInfer*.h and NvOnnxParser.h are in no wheel: NVIDIA's Debian packages libnvinfer-headers-dev and
libnvonnxparsers-dev have them, and so have the repositories NVIDIA/TensorRT and onnx/onnx-tensorrt.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from read_tensorrt_api import stand_in_for_absent

from .interface import header_from_impl

WHEELS = {"8.5": "8.5.2.2", "8.6": "8.6.0"}
CACHE = Path(os.environ.get("EDGEDET_TRT_PARSER", "~/.cache/edgedet-trt-parser")).expanduser()
LIBRARIES = ("libnvinfer.so.8", "libnvinfer_plugin.so.8", "libnvonnxparser.so.8")
SOURCES = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-deprecated-declarations"]


@dataclass(frozen=True)
class Parser:
    """A built program: it is run with ``environment``, and takes the path of the parser's library first."""

    version: str
    program: Path
    library: Path
    environment: dict[str, str]


def find_parser(version: str) -> Parser | None:
    """Return the program for a version such as "8.6", if it was built from the sources that are here."""
    folder = CACHE / WHEELS[version]
    program = folder / f"trt_parser-{_hash_of_sources()}"
    if not program.is_file():
        return None
    paths = os.pathsep.join([str(folder / "lib"), str(folder / "stand-ins")])
    return Parser(version, program, folder / "lib" / LIBRARIES[-1], {**os.environ, "LD_LIBRARY_PATH": paths})


def build_parser(version: str) -> Parser:
    """Return the program; download and compile what is missing. ``keep_headers`` comes first, once for each version."""
    folder = CACHE / WHEELS[version]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "include").is_dir():
        sys.exit(
            f"NVIDIA's headers of TensorRT {version} are needed: --headers FOLDER, with NvInfer.h, NvOnnxParser.h."
        )
    if not (folder / "stand-ins").is_dir():
        _unpack_wheel(version, folder)
    if find_parser(version) is None:
        _compile(folder)
    parser = find_parser(version)
    assert parser is not None
    return parser


def keep_headers(headers: Path) -> None:
    """Copy NVIDIA's headers of one version to the cache."""
    for name in ("NvInfer.h", "NvInferImpl.h", "NvInferVersion.h", "NvOnnxParser.h"):
        if not (headers / name).is_file():
            sys.exit(f"--headers: {headers} has no {name}.")
    text = (headers / "NvInferVersion.h").read_text(encoding="utf-8")
    numbers = dict(re.findall(r"define NV_TENSORRT_(MAJOR|MINOR)\s+(\d+)", text))
    version = f"{numbers.get('MAJOR')}.{numbers.get('MINOR')}"
    if version not in WHEELS:
        sys.exit(f"--headers: {headers} is of TensorRT {version}; PyPI has the parser of {' and '.join(WHEELS)}.")
    include = CACHE / WHEELS[version] / "include"
    include.mkdir(parents=True, exist_ok=True)
    for path in headers.glob("Nv*.h"):
        shutil.copy(path, include)


def _unpack_wheel(version: str, folder: Path) -> None:
    wheel_version = WHEELS[version]
    print(f"fetching tensorrt {wheel_version}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--python-version", "3.8", "-d", temporary, f"tensorrt=={wheel_version}"]
        subprocess.run(command, check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        unpacked = Path(temporary) / "lib"
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in LIBRARIES:
                with archive.open(f"tensorrt/{name}") as packed, (unpacked / name).open("wb") as out:
                    shutil.copyfileobj(packed, out)
        stand_ins = Path(temporary) / "stand-ins"
        stand_ins.mkdir()
        stand_in_for_absent(unpacked, stand_ins)  # cuBLAS and cuDNN, which the plug-ins want to be there
        unpacked.rename(folder / "lib")
        stand_ins.rename(folder / "stand-ins")


def _compile(folder: Path) -> None:
    program = folder / f"trt_parser-{_hash_of_sources()}"
    print(f"compiling {program.name}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        interface = header_from_impl(folder / "include" / "NvInferImpl.h")
        (Path(temporary) / "interface.hpp").write_text(interface, encoding="utf-8")
        built = Path(temporary) / "trt_parser"
        include = ["-I", temporary, "-I", str(SOURCES), "-isystem", str(folder / "include")]
        sources = [str(path) for path in sorted(SOURCES.glob("*.cpp"))]
        subprocess.run(["g++", *FLAGS, *include, *sources, "-o", str(built), "-ldl"], check=True)
        built.rename(program)


def _hash_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.[ch]pp"), *SOURCES.glob("*.h"), SOURCES / "interface.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
