"""How many pictures a second does `edgedet serve --zmq` answer for 1, 2 and 4 detectors, and how fast?

    python scripts/measure/serve.py --server 'A=edgedet serve --zmq {endpoint} model.tflite' [--server 'B=...']
        [--clients 1,2,4] [--seconds 2] [--rounds 15] [--side 512] [--frigate TREE [--timeout 200]]

Starts each server once; each client is a process of its own that asks again as soon as it has its answer, as a detector
of Frigate does. Servers take turns, in short rounds. With a checkout of Frigate (TREE, with pydantic and what else it
imports) the clients are its ZmqIpcDetector. Prints a row for each server and number of clients: pictures a second of
all clients (and the median of its ratio to the first server's in the same round), the server's milliseconds of CPU for
a picture, median and 99th percentile of the time to an answer, how often the least served client was served for once
of the most served one, and how many questions got no boxes, as Frigate gives where the time is over.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedet import demo

Ask = Callable[[], bool]  # whether there were boxes
HEAD = """| server | clients | pictures/s | CPU ms | p50 ms | p99 ms | least / most | without boxes |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Server:
    """A server that runs: where it answers, and its process."""

    endpoint: str
    pid: int

    def cpu_ms(self) -> float:
        """Return the processor time that it has used."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * 1e3 / os.sysconf("SC_CLK_TCK")


def picture_of(side: int) -> np.ndarray:
    """Return a picture of the demo's clip, (1, side, side, 3) uint8 RGB."""
    import cv2

    rgb = cv2.cvtColor(demo.clip_frames(1)[0], cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(cv2.resize(rgb, (side, side)))[None]


def by_socket(endpoint: str, picture: np.ndarray) -> Ask:
    """Ask with a REQ socket."""
    import zmq

    socket = zmq.Context().socket(zmq.REQ)
    socket.connect(endpoint)
    header = json.dumps({"shape": list(picture.shape), "dtype": "uint8", "model_type": "ssd"}).encode()

    def ask() -> bool:
        socket.send_multipart([header, memoryview(picture.tobytes())])
        return bool(np.frombuffer(socket.recv(), np.float32).any())

    return ask


def by_frigate(endpoint: str, picture: np.ndarray, tree: Path, timeout_ms: int) -> Ask:
    """Ask with Frigate's own detector, which gives up after ``timeout_ms``."""
    sys.path.insert(0, str(tree))
    from frigate.detectors.detector_config import ModelConfig
    from frigate.detectors.plugins.zmq_ipc import ZmqDetectorConfig, ZmqIpcDetector

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as labels:
        labels.write("0 person\n")
        labels.flush()
        model = ModelConfig(
            path="model", labelmap_path=labels.name, width=picture.shape[2], height=picture.shape[1], input_dtype="int"
        )
    config: Any = ZmqDetectorConfig(type="zmq", endpoint=endpoint, request_timeout_ms=timeout_ms, model=model)
    detector = ZmqIpcDetector(config)
    return lambda: bool(np.any(detector.detect_raw(picture)))


def run_client(make: Callable[[], Ask], seconds: float, start: Any, results: Any) -> None:
    """Ask for ``seconds`` from when all are ready; tell times in ms, and how many answers had no boxes."""
    ask, times_ms, empty = make(), [], 0
    ask()
    start.wait()
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        empty += not ask()
        times_ms.append((time.perf_counter() - began) * 1e3)
    results.put((times_ms, empty))


def run_clients(make: Callable[[], Ask], count: int, seconds: float) -> list[tuple[list[float], int]]:
    """Run ``count`` clients at the same time; return each one's times and empty answers."""
    start, results = multiprocessing.Barrier(count), multiprocessing.Queue()
    processes = [multiprocessing.Process(target=run_client, args=(make, seconds, start, results)) for _ in range(count)]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return answers


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", required=True, metavar="NAME=COMMAND")
    parser.add_argument("--clients", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frigate", type=Path)
    parser.add_argument("--timeout", type=int, default=200, help="ms, of Frigate's detector")
    args = parser.parse_args()
    picture = picture_of(args.side)
    servers: dict[str, Server] = {}
    processes: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number, text in enumerate(args.server):
                name, _, command = text.partition("=")
                endpoint = f"ipc://{folder}/{number}"
                words = shlex.split(command.format(endpoint=endpoint))
                processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
                servers[name] = Server(endpoint, processes[-1].pid)
                assert processes[-1].stdout is not None
                print(f"{name}: {processes[-1].stdout.readline().strip()}", flush=True)
            print(HEAD, flush=True)
            for count in map(int, args.clients.split(",")):
                measure(servers, picture, count, args)
        finally:
            for process in processes:
                process.terminate()
                print(process.communicate()[0].strip())


def measure(servers: dict[str, Server], picture: np.ndarray, count: int, args: argparse.Namespace) -> None:
    """Print the rows of ``count`` clients."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    answers: dict[str, list[tuple[list[float], int]]] = {name: [] for name in servers}
    served: dict[str, list[list[int]]] = {name: [] for name in servers}
    cpu_ms = dict.fromkeys(servers, 0.0)
    for number in range(args.rounds):
        for name, server in list(servers.items())[:: 1 if number % 2 == 0 else -1]:
            before_ms = server.cpu_ms()
            answered = run_clients(make_of(server.endpoint, picture, args), count, args.seconds)
            cpu_ms[name] += server.cpu_ms() - before_ms
            answers[name] += answered
            served[name].append([len(times) - empty for times, empty in answered])
            rates[name].append(sum(served[name][-1]) / args.seconds)
    first = next(iter(servers))
    for name, answered in answers.items():
        times_ms = [time_ms for times, _ in answered for time_ms in times]
        shares = [min(counts) / max(1, *counts) if max(counts) else 0.0 for counts in served[name]]
        ratios = [mine / its for mine, its in zip(rates[name], rates[first], strict=True) if its]
        p50, p99 = np.percentile(times_ms, [50, 99])
        pictures = sum(map(sum, served[name])) + count * args.rounds  # one each before the clock starts
        print(
            f"| {name} | {count} | {statistics.median(rates[name]):.1f} ({statistics.median(ratios or [0]):.2f}) | "
            f"{cpu_ms[name] / pictures:.1f} | {p50:.0f} | {p99:.0f} | {statistics.median(shares):.2f} | "
            f"{sum(empty for _, empty in answered)} of {len(times_ms)} |",
            flush=True,
        )


def make_of(endpoint: str, picture: np.ndarray, args: argparse.Namespace) -> Callable[[], Ask]:
    """Return what opens a client; it is called in the client's process."""
    if args.frigate is None:
        return lambda: by_socket(endpoint, picture)
    return lambda: by_frigate(endpoint, picture, args.frigate, args.timeout)


if __name__ == "__main__":
    main()
