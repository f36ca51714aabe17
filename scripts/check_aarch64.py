"""Check the device wheel on emulated aarch64: it must give the same numbers as on this machine, bit for bit.

python scripts/check_aarch64.py [--env DIR | --keep DIR] [--model FILE]

Builds the wheel and, without --env, an emulated system (scripts/make_aarch64_env.sh) in a temporary folder or, for
other tests, in that of --keep; runs `edgedet run` and the engine on frames of the demo clip, on this machine and on two
kinds of emulated ARM core, compares the results, and runs `edgedet doctor` in the emulated system. Where packages
cannot be downloaded it says so and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from edgedet import demo  # noqa: E402

TEST_HELPERS = ROOT / "tests/support"  # with installs.py
CPUS = ("cortex-a72", "cortex-a76")  # Raspberry Pi 4 and 5: without and with dot product instructions
FRAMES = 2
ENLARGED = 2.5  # the first frame once more, so large that it is halved before it is resized
NO_PACKAGES = 77  # exit code of make_aarch64_env.sh where packages cannot be downloaded
LIMIT_S = 360
ENV_LIMIT_S = 180  # for the packages' download

RAW_OUTPUTS = """
import sys, cv2, numpy as np
from edgedet.engines.base import open_engine
from edgedet.preprocess import Preprocessor
model, target, *paths = sys.argv[1:]
meta, engine = open_engine(model, 1)
fit = Preprocessor(meta.spec)
arrays = {}
for index, path in enumerate(paths):
    pixels = fit(cv2.imread(path)).pixels
    raw = engine.infer(pixels)
    for name, array in (("pixels", pixels), ("class_logits", raw.class_logits), ("box_codes", raw.box_codes)):
        arrays[f"frame {index} {name}"] = array.copy()
np.savez(target, **arrays)
"""


class Failed(Exception):
    """A step failed, or results differ."""


def main() -> int:
    """Run all steps; return 0 where everything is equal or packages cannot be downloaded, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--env", type=Path, help="folder of make_aarch64_env.sh, instead of a temporary one")
    where.add_argument("--keep", type=Path, help="make the system in this folder, which is emptied before and stays")
    parser.add_argument("--model", type=Path, help="INT8 .tflite (default: the demo's)")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgedet-aarch64-") as temporary:
        try:
            return check(args, Path(temporary), started)
        except subprocess.TimeoutExpired as error:
            print(f"aarch64: FAILED: not done within {LIMIT_S} s; it was at {error.cmd[:4]}")
        except Failed as error:
            print(f"aarch64: FAILED: {error}")
    return 1


def check(args: argparse.Namespace, folder: Path, started: float) -> int:
    """Build, run and compare in ``folder``; see ``main``."""

    def run(command: list[str], **environment: str) -> str:
        left_s = LIMIT_S - (time.monotonic() - started)
        env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SITE", "QEMU_OPTIONS")}
        done = subprocess.run(
            command,
            cwd=folder,
            env={**env, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(left_s, 1),
        )
        if done.returncode:
            raise Failed(f"{command[:6]} exited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    emulated = (args.env or args.keep or folder / "env").absolute()
    if args.env is None:
        if args.keep is not None:
            shutil.rmtree(args.keep, ignore_errors=True)
        reason = make_env(emulated)
        if reason:
            print(f"aarch64: skipped: {reason}")
            return 0
    print(f"aarch64: {time.monotonic() - started:.0f} s: the emulated system is there")
    site = folder / "site"
    wheel = build_wheel(folder, run)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run([*pip, "--target", str(site), str(wheel)])
    model = (args.model or demo.INT8).resolve()
    frames = save_frames(folder / "frames")

    def both_runs(python: str, name: str, **environment: str) -> tuple[list, dict[str, np.ndarray]]:
        jsonl, arrays = folder / f"{name}.jsonl", folder / f"{name}.npz"
        edgedet = [python, "-m", "edgedet"]
        run(
            [*edgedet, "run", str(model), "--source", str(frames[0].parent), "--jsonl", str(jsonl), "--threads", "1"],
            **environment,
        )
        run([python, "-c", RAW_OUTPUTS, str(model), str(arrays), *map(str, frames)], **environment)
        detections = [json.loads(line)["detections"] for line in jsonl.read_text().splitlines()]
        return detections, dict(np.load(arrays))

    guest = str(emulated / "python")
    with ThreadPoolExecutor(len(CPUS)) as pool:
        emulated_results = {cpu: pool.submit(both_runs, guest, cpu, SITE=str(site), CPU=cpu) for cpu in CPUS}
        detections, arrays = both_runs(sys.executable, "host", PYTHONPATH=str(ROOT))
    if not all(detections):
        counts = [len(boxes) for boxes in detections]
        raise Failed(f"the demo's frames show people, but this machine detected {counts} of them")
    for cpu, result in emulated_results.items():
        compare(cpu, result.result(), (detections, arrays))
    doctor = run([guest, "-m", "edgedet", "doctor"], SITE=str(site), CPU=CPUS[-1])
    for line in ("Models that can run here: .tflite, .onnx", "Cortex-A76, aarch64", "INT8: yes, checked here"):
        if line not in doctor:
            raise Failed(f"edgedet doctor does not say {line!r}:\n{doctor}")
    print(doctor.strip())
    print(f"aarch64: passed in {time.monotonic() - started:.0f} s")
    return 0


def make_env(target: Path) -> str | None:
    """Build the emulated system with the versions of this Python's packages; or return why not."""
    try:
        packages = [
            "numpy==1.26.4",
            f"opencv-python-headless=={metadata.version('opencv-python')}",
            *(f"{name}=={metadata.version(name)}" for name in ("ai-edge-litert", "onnxruntime")),
        ]
    except metadata.PackageNotFoundError as error:
        return f"{error.name} is not installed here, so there is nothing to compare with"
    command = [str(ROOT / "scripts/make_aarch64_env.sh"), str(target)]
    env = {**os.environ, "PYTHON": sys.executable, "PACKAGES": " ".join(packages)}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=ENV_LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"Debian's and Python's packages did not come within {ENV_LIMIT_S} s"
    if done.returncode == NO_PACKAGES:
        return done.stderr.strip().splitlines()[-1]
    if done.returncode:
        raise Failed(f"make_aarch64_env.sh exited with {done.returncode}:\n{done.stderr[-2000:]}")
    return None


def build_wheel(folder: Path, run) -> Path:
    """Return edgedet's wheel, built as for a release, from a copy of the sources."""
    code = (
        "import sys; from pathlib import Path; from installs import build, copy_sources; folder = Path(sys.argv[1]);"
        "print(build(copy_sources(folder / 'tree', links=True), 'wheel', folder / 'wheel'))"
    )
    return Path(run([sys.executable, "-c", code, str(folder)], PYTHONPATH=str(TEST_HELPERS)).strip())


def save_frames(folder: Path) -> list[Path]:
    """Save frames of the demo clip, and the first one enlarged, as PNG, which loses nothing."""
    import cv2

    folder.mkdir()
    frames = demo.clip_frames(FRAMES)
    frames.append(cv2.resize(frames[0], None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC))
    paths = [folder / f"{index}.png" for index in range(len(frames))]
    for path, bgr in zip(paths, frames, strict=True):
        cv2.imwrite(str(path), bgr)
    return paths


def compare(cpu: str, emulated: tuple[list, dict[str, np.ndarray]], host: tuple[list, dict[str, np.ndarray]]) -> None:
    """Print that the (detections, arrays) of both are equal; raise Failed where they differ."""
    for name, array in host[1].items():
        other = emulated[1][name]
        if array.dtype != other.dtype or array.shape != other.shape:
            raise Failed(f"{cpu}: {name} is {other.shape} {other.dtype}, here {array.shape} {array.dtype}")
        if not np.array_equal(array, other):
            raise Failed(f"{cpu}: {(array != other).sum()} of {array.size} elements of {name} differ")
    if emulated[0] != host[0]:
        raise Failed(f"{cpu}: detections differ:\n{json.dumps(emulated[0])}\nhere:\n{json.dumps(host[0])}")
    elements = sum(array.size for array in host[1].values())
    boxes = ", ".join(str(len(detections)) for detections in host[0])
    print(f"aarch64: {cpu}: {elements} pixels and raw outputs, and {boxes} boxes in {len(host[0])} frames: equal")


if __name__ == "__main__":
    sys.exit(main())
