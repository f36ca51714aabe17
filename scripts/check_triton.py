"""Serve a folder of `edgedet export --for triton` by NVIDIA's server, and compare boxes with edgedet's own.

    python scripts/check_triton.py edgedet-out/triton edgedet-out/model.onnx photographs/ --server DIR --packages DIR
        [--most 12]

--server: PyPI's nvidia-pytriton 0.7.0, unpacked (`pip download --no-deps nvidia-pytriton`, unzip). It holds
tritonserver and its Python backend, but no onnxruntime backend, so programs/triton_backend/model.py stands in for that.
--packages: a folder for it with onnxruntime and numpy 1, as its Python backend knows no numpy 2 (`pip install --target
DIR --no-deps onnxruntime numpy==1.26.4 flatbuffers protobuf packaging`). Needs tritonclient[http].

Prints what the server says of the model; boxes for requests of 1, 2 and 4 pictures; and how many runs it made for the
requests of 4 clients at a time, by its own statistics.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton

from edgedet import Detections, Detector
from edgedet.judge.agreement import compute_iou
from edgedet.preprocess import Preprocessor
from edgedet.stream.sources import open_source
from edgedet.types import ModelInput

SCORE = 0.1
OUTPUTS = ("num", "boxes", "scores", "classes")
START_S = 300.0


@contextmanager
def started(server: Path, repository: Path, packages: Path) -> Iterator[str]:
    """Run tritonserver on this machine only; yield HOST:PORT."""
    binaries = server / "pytriton/tritonserver"
    stub = f"python_backend_stubs/{sys.version_info[0]}.{sys.version_info[1]}/triton_python_backend_stub"
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        backends = Path(folder) / "backends"
        shutil.copytree(binaries / "backends", backends)
        shutil.copy(binaries / stub, backends / "python")
        shutil.copytree(Path(__file__).parent / "programs/triton_backend", backends / "onnxruntime")
        for path in (binaries / "bin/tritonserver", backends / "python/triton_python_backend_stub"):
            path.chmod(0o755)
        free.close()
        command = [
            str(binaries / "bin/tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ]
        libraries = os.pathsep.join([str(server / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")])
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "PYTHONPATH": str(packages)}
        process = subprocess.Popen(command, env=environment)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(client: Any) -> None:
    """Return once the server has loaded and warmed up its models."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            if client.is_server_ready():
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"the server was not ready after {START_S:.0f} s")


def ask(client: Any, model: str, pictures: list[ModelInput]) -> list[Detections]:
    """Send one request of several pictures; return the boxes of each in its own pixels."""
    pixels = np.concatenate([picture.pixels for picture in pictures])
    image = triton.InferInput("pixels", list(pixels.shape), "UINT8")
    image.set_data_from_numpy(pixels)
    answer = client.infer(model, [image])
    number, boxes, scores, classes = (answer.as_numpy(name) for name in OUTPUTS)
    detections = []
    for at, picture in enumerate(pictures):
        n = int(number[at, 0])
        h, w = picture.source_hw
        own = np.clip(boxes[at, :n] * picture.scale_to_source, 0, [w, h, w, h]).astype(np.float32)
        detections.append(Detections(own, scores[at, :n], classes[at, :n].astype(np.int64)))
    return detections


def row(name: str, actual: list[Detections], expected: list[Detections]) -> str:
    """Return how boxes agree, in one line."""
    ious, differences = [], []
    for its, own in zip(actual, expected, strict=True):
        if len(its) and len(own):
            overlaps = compute_iou(its.boxes_xyxy, own.boxes_xyxy)
            best = overlaps.argmax(axis=1)
            ious += overlaps.max(axis=1).tolist()
            differences += np.abs(its.scores - own.scores[best]).tolist()
    counts = f"{sum(map(len, actual))} boxes, edgedet's {sum(map(len, expected))}"
    return f"{name}: {counts}, least IoU {min(ious, default=0):.4f}, scores within {max(differences, default=1):.1e}"


def runs_of(client: Any, model: str) -> tuple[int, int]:
    """Return pictures and runs of the network that the server has counted."""
    (figures,) = client.get_inference_statistics(model)["model_stats"]
    return int(figures["inference_count"]), int(figures["execution_count"])


def main() -> None:
    """Check one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path, help="the raw .onnx file that the folder's was made from")
    parser.add_argument("photographs")
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--most", type=int, default=12)
    args = parser.parse_args()
    name = args.model.stem
    server = started(args.server, args.folder / "repository", args.packages)
    with Detector(str(args.model), 1, SCORE) as detector, server as address:
        client = triton.InferenceServerClient(address, network_timeout=600, connection_timeout=60)
        wait_until_ready(client)
        config = client.get_model_config(name)
        print("model ready:", client.is_model_ready(name), "max_batch_size:", config["max_batch_size"])
        print("metadata:", client.get_model_metadata(name))
        fit = Preprocessor(detector.meta.spec)
        pictures, expected = [], []
        for frame in islice(open_source(args.photographs, lambda: False), args.most):
            fitted = fit(frame.bgr)
            pictures.append(ModelInput(np.array(fitted.pixels), fitted.scale_to_source, fitted.source_hw))
            expected.append(detector(frame.bgr))
        for count in (1, 2, 4):
            if count <= max(1, config["max_batch_size"]):
                groups = [pictures[at : at + count] for at in range(0, len(pictures), count)]
                answers = [detections for group in groups for detections in ask(client, name, group)]
                print(row(f"requests of {count}", answers, expected))
        before = runs_of(client, name)

        def ask_alone(picture: ModelInput) -> Detections:
            with triton.InferenceServerClient(address, network_timeout=600) as own:
                return ask(own, name, [picture])[0]

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask_alone, pictures))
        after = runs_of(client, name)
        print(row("4 clients at a time", answers, expected))
        print(f"for these {after[0] - before[0]} pictures the server made {after[1] - before[1]} runs")


if __name__ == "__main__":
    main()
