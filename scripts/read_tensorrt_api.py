"""Write the names of all classes and members of NVIDIA's TensorRT bindings, read from a real wheel, as VERSION.json.

    python scripts/read_tensorrt_api.py 8.5.2.2 --python python3.8 --out listings/
    python tests/support/simulated/trt_api.py listings/

PyPI has full wheels of 8.5.1.7 to 8.6.0, 549 to 819 MB each; they are downloaded, read and deleted. The bindings load
without a GPU. Their plug-in library wants cuBLAS and cuDNN to be there when it is loaded; empty libraries with those
names stand in, because nothing is computed here. No class of TensorRT is made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ABSENT = re.compile(r"U (\w+)@(lib(?:cublas|cublasLt|cudnn)\.so\.\d+)")
LIST = """
import inspect, json, tensorrt
found = {}
for name, value in vars(tensorrt).items():
    if name.startswith("_") or inspect.ismodule(value):
        continue
    is_class = inspect.isclass(value)
    found[name] = sorted(m for m in dir(value) if not m.startswith("_")) if is_class else None
print(json.dumps(found, indent=0, sort_keys=True))
"""


def main() -> None:
    """Download, list, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="version on PyPI, for example 8.5.2.2")
    parser.add_argument("--python", required=True, help="an interpreter that the version has a wheel for")
    parser.add_argument("--out", type=Path, required=True, help="folder for VERSION.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        listing = listing_of(options.version, options.python, Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.version}.json"
    path.write_text(listing, encoding="utf-8")
    print(f"wrote {path}: {len(json.loads(listing))} names")


def listing_of(version: str, python: str, folder: Path) -> str:
    """Return {class: [members]} as JSON, null for what is no class; ``folder`` holds the wheel meanwhile."""
    tag = _output(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--python-version", tag, "-d", str(folder), f"tensorrt=={version}"], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
    library = folder / "tensorrt"
    stand_in_for_absent(library, folder)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{folder}{os.pathsep}{library}",
        "PYTHONPATH": str(folder),
    }
    return _output(python, "-c", LIST, env=environment) + "\n"


def stand_in_for_absent(library: Path, folder: Path) -> None:
    """Compile libraries with the names of cuBLAS and cuDNN whose functions do nothing."""
    functions: dict[str, set[str]] = {}
    for path in library.glob("libnvinfer*.so.*"):
        for function, name in ABSENT.findall(_output("nm", "-D", "--undefined-only", str(path))):
            functions.setdefault(name, set()).add(function)
    for name, names in functions.items():
        versions = folder / f"{name}.map"
        versions.write_text(f"{name} {{ global: *; }};\n")
        source = "\n".join(f"int {function}(void) {{ return 1; }}" for function in sorted(names))
        subprocess.run(
            [
                "gcc",
                "-w",
                "-shared",
                "-x",
                "c",
                "-",
                "-o",
                str(folder / name),
                f"-Wl,-soname,{name}",
                f"-Wl,--version-script={versions}",
            ],
            input=source,
            text=True,
            check=True,
        )


def _output(*command: str, **options: object) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
