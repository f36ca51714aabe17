"""Install the device wheel on every Python that this machine has, with each engine that has wheels, and find people.

python scripts/run_python_matrix.py [--pythons 3.8 3.13] [--tflite FILE] [--onnx FILE] [--json FILE]

For each Python 3.8 to 3.13 (on the PATH, or in pyenv) and each engine: a fresh virtual environment, the wheel with pip,
OpenCV and the engine as a user would install them, `edgedet doctor`, then `edgedet run` on frames of the demo clip.
Prints a table: versions and boxes found, "no wheel", or what failed; exit code 1 where something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from check_aarch64 import ROOT, Failed, build_wheel, save_frames

from edgedet import demo

PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
# engine -> (requirements beside the wheel, suffix of the model that it runs)
ENGINES = {
    "onnxruntime": (("onnxruntime",), ".onnx"),
    "ai-edge-litert": (("ai-edge-litert",), ".tflite"),
    "tflite-runtime": (("tflite-runtime", "numpy<2", "opencv-python-headless<5"), ".tflite"),
}
NO_WHEEL = ("No matching distribution found", "Could not find a version")
LIMIT_S = 600


@dataclass(frozen=True)
class Cell:
    """What happened with one engine on one Python.

    outcome:  "ran", "no wheel" or "failed".
    packages: name -> version, of what was installed.
    boxes:    found in each frame.
    why:      of a failure.
    """

    python: str
    engine: str
    outcome: str
    packages: dict[str, str]
    boxes: tuple[int, ...] = ()
    why: str = ""


def interpreter(version: str) -> str | None:
    """Return an interpreter of this version, or None where the machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    check = f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, version.split('.')))})"
    for candidate in candidates:
        try:
            if subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
                return candidate
        except FileNotFoundError:
            continue
    return None


def run(command: list[str], cwd: Path | None = None, **environment: str) -> str:
    """Run a command outside the checkout's reach; raises Failed with its last words."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**env, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode:
        raise Failed((done.stderr or done.stdout).strip()[-2000:])
    return done.stdout


def try_cell(python: str, version: str, engine: str, wheel: Path, models: dict[str, Path], frames: Path) -> Cell:
    """Install and run one engine on one Python."""
    requirements, suffix = ENGINES[engine]
    with tempfile.TemporaryDirectory(prefix="edgedet-matrix-") as temporary:
        folder = Path(temporary)
        run([python, "-m", "venv", str(folder / "venv")], folder)
        inside = str(folder / "venv/bin/python")
        opencv = [] if any("opencv" in name for name in requirements) else ["opencv-python-headless"]
        install = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:"]
        try:
            run([*install, str(wheel), *opencv, *requirements], folder)
        except Failed as error:
            if any(text in str(error) for text in NO_WHEEL):
                return Cell(version, engine, "no wheel", {})
            return Cell(version, engine, "failed", {}, why=f"pip: {error}")
        listed = json.loads(
            run([inside, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"], folder)
        )
        names = {"numpy", engine, *(name for name in ("opencv-python-headless",))}
        packages = {item["name"]: item["version"] for item in listed if item["name"].replace("_", "-") in names}
        try:
            run([inside, "-m", "edgedet", "doctor"], folder)
            jsonl = folder / "out.jsonl"
            model = str(models[suffix])
            run([inside, "-m", "edgedet", "run", model, "--source", str(frames), "--jsonl", str(jsonl)], folder)
        except Failed as error:
            return Cell(version, engine, "failed", packages, why=str(error))
        boxes = tuple(len(json.loads(line)["detections"]) for line in jsonl.read_text().splitlines())
        outcome = "ran" if boxes and all(boxes) else "failed"
        return Cell(version, engine, outcome, packages, boxes, "" if outcome == "ran" else "a frame without people")


def main() -> int:
    """Try every cell; return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS)
    parser.add_argument("--engines", nargs="+", default=tuple(ENGINES), choices=ENGINES)
    parser.add_argument("--tflite", type=Path, help="INT8 file (default: the demo's)")
    parser.add_argument("--onnx", type=Path, help="float file (default: the demo, exported)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cells = []
    with tempfile.TemporaryDirectory(prefix="edgedet-matrix-") as temporary:
        folder = Path(temporary)
        wheel = build_wheel(folder, run)
        models = {".tflite": (args.tflite or demo.INT8).resolve()}
        models[".onnx"] = (args.onnx or float_demo(folder)).resolve()
        save_frames(folder / "frames")
        for version in args.pythons:
            python = interpreter(version)
            if python is None:
                print(f"Python {version}: this machine has none", flush=True)
                continue
            for engine in args.engines:
                cell = try_cell(python, version, engine, wheel, models, folder / "frames")
                cells.append(cell)
                installed = ", ".join(f"{name} {number}" for name, number in cell.packages.items())
                result = f"{list(cell.boxes)} boxes" if cell.boxes else cell.why.splitlines()[-1] if cell.why else ""
                print(f"Python {version}  {engine:<15} {cell.outcome:<9} {installed}  {result}".rstrip(), flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(cell) for cell in cells]) + "\n")
    failed = sum(cell.outcome == "failed" for cell in cells)
    print(f"{sum(cell.outcome == 'ran' for cell in cells)} ran, {failed} failed")
    return 1 if failed else 0


def float_demo(folder: Path) -> Path:
    """Return the demo as a float ONNX file."""
    run(
        [sys.executable, "-m", "edgedet", "export", "--phi", "0", "--weights", "demo", "--out", str(folder / "float")],
        PYTHONPATH=str(ROOT),
    )
    return next((folder / "float").glob("*.onnx"))


if __name__ == "__main__":
    sys.exit(main())
