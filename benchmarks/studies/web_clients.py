"""Measure how viewers of the live page slow the detector: frames a second with 0, 1 and 20, one of which never reads.

    python -m edgedet.benchmarks.studies.web_clients

A real `edgedet run --web` plays the demo's clip at 1280x720 as a camera of 25 frames a second, close to the most
that it can process. The numbers of viewers alternate over several rounds, since other programs and the clock change the
speed; medians count, and the share of the frames a second without viewers is the median of the rounds' own shares. CPU
time for each frame shows the cost of viewers where no core is idle. Each viewer reads pictures and events, as a page
does. Here the viewers run on the same machine, so they have the lowest priority, and the kernel discards what they
read.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from edgedet import demo
from edgedet.benchmarks.latency.device import describe_device, describe_engine
from edgedet.errors import require
from edgedet.files import sha256_of
from edgedet.stream.sources import open_source

SIZE_WH, FPS = (1280, 720), 25.0
VIEWERS = (0, 1, 20)
STUCK = 1  # viewers, among the largest number, that never read, and connect again when they are disconnected
SETTLE_S, MEASURE_S, ROUNDS = 1.5, 8.0, 5
WARMUP_S = 3.0
TARGET = 0.95  # share of the frames a second without viewers
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Phase:
    """One round with one number of viewers.

    cpu_ms:  CPU time of the whole process for each frame.
    shown:   pictures that were encoded, a second.
    rss_mb:  resident memory of the process at the end.
    """

    viewers: int
    fps: float
    cpu_ms: float
    shown: float
    rss_mb: float


def write_clip(path: Path) -> None:
    """Write the demo's clip at SIZE_WH."""
    cv2 = require("cv2", "the benchmark")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE_WH)
    with closing(open_source(str(demo.CLIP), lambda: False)) as source:
        for frame in source:
            writer.write(cv2.resize(frame.bgr, SIZE_WH))
    writer.release()


def view(port: int, viewers: int, stuck: int) -> None:
    """Read streams and events until this process is ended; for a process of its own."""
    os.nice(19)
    poll = select.poll()
    reading: dict[int, socket.socket] = {}
    for path in ("/stream.mjpg", "/events"):
        for _ in range(viewers - stuck):
            connection = _open(port, path)
            reading[connection.fileno()] = connection
            poll.register(connection, select.POLLIN)
    stuck_connections = [_open(port, "/stream.mjpg") for _ in range(stuck)]
    while True:
        for number, _ in poll.poll(1000):
            if not reading[number].recv(_READ_BYTES, socket.MSG_TRUNC):  # TCP: discarded without a copy
                raise SystemExit("a viewer that reads was disconnected")
        for index, connection in enumerate(stuck_connections):
            if select.select([], [], [connection], 0)[2] or _is_closed(connection):
                stuck_connections[index] = _open(port, "/stream.mjpg")


def _open(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return connection


def _is_closed(connection: socket.socket) -> bool:
    hung_up = select.poll()
    hung_up.register(connection, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    return bool(hung_up.poll(0))


@contextmanager
def running(clip: Path, model: Path, threads: int) -> Iterator[tuple[int, int]]:
    """Yield (process id, port) of a run."""
    command = [sys.executable, "-m", "edgedet", "run", str(model), "--source", str(clip), "--loop"]
    command += ["--threads", str(threads), "--web", "127.0.0.1:0"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert run.stderr is not None
        port = next(int(match[1]) for line in run.stderr if (match := re.search(r"http://[\d.]+:(\d+)/", line)))
        yield run.pid, port
    finally:
        run.terminate()
        run.wait()


def read_counters(pid: int, port: int) -> tuple[float, float, float, float, float]:
    """Return (time in seconds, frames, pictures, CPU seconds, resident megabytes) of a run."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics")
    now = time.perf_counter()
    text = connection.getresponse().read().decode()
    connection.close()

    def value(name: str) -> float:
        match = re.search(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        assert match is not None, name
        return float(match[1])

    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    rss_mb = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return now, value("edgedet_frames_total"), value("edgedet_pictures_total"), cpu_s, rss_mb


def measure(pid: int, port: int, viewers: int, seconds: float) -> Phase:
    """Measure one round with this number of viewers."""
    stuck = STUCK if viewers == max(VIEWERS) else 0
    code = f"from edgedet.benchmarks.studies.web_clients import view; view({port}, {viewers}, {stuck})"
    child = subprocess.Popen([sys.executable, "-c", code]) if viewers else None
    try:
        time.sleep(SETTLE_S)
        before = read_counters(pid, port)
        time.sleep(seconds)
        after = read_counters(pid, port)
        if child is not None and child.poll() is not None:
            raise SystemExit("the viewers ended before their time")
    finally:
        if child is not None:
            child.kill()
            child.wait()
    passed, frames, shown, cpu_s = (b - a for a, b in zip(before[:4], after[:4], strict=True))
    return Phase(viewers, frames / passed, cpu_s * 1e3 / frames, shown / passed, after[4])


def main(argv: list[str] | None = None) -> int:
    """Print a table for each number of threads, then one line of JSON."""
    parser = argparse.ArgumentParser(description="What viewers of the live page cost the detector.")
    parser.add_argument("model", nargs="?", type=Path, default=demo.INT8, help="model file (default: the demo's INT8)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the detector (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=MEASURE_S, help="that count, a phase (default: %(default)g)")
    args = parser.parse_args(argv)
    if args.rounds < 1 or args.seconds <= 0 or min(args.threads) < 1:
        parser.error("--rounds and --threads want numbers from 1 up, --seconds one above 0")
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip)
        for threads in args.threads:
            with running(clip, args.model, threads) as (pid, port):
                time.sleep(WARMUP_S)
                phases = [measure(pid, port, viewers, args.seconds) for _ in range(args.rounds) for viewers in VIEWERS]
            figures[f"threads_{threads}"] = [asdict(phase) for phase in phases]
            print(f"{args.model.name}, {SIZE_WH[0]}x{SIZE_WH[1]}, {threads} detector threads, {args.rounds} rounds")
            print("viewers    FPS  of none  CPU ms a frame  pictures/s  RSS MB")
            of_none = [phase for phase in phases if phase.viewers == 0]
            for viewers in VIEWERS:
                rows = [phase for phase in phases if phase.viewers == viewers]
                share = median(row.fps / none.fps for row, none in zip(rows, of_none, strict=True))
                print(
                    f"{viewers:>7}  {median(row.fps for row in rows):>5.2f}  {share:>7.3f}  "
                    f"{median(row.cpu_ms for row in rows):>14.1f}  {median(row.shown for row in rows):>10.1f}  "
                    f"{rows[-1].rss_mb:>6.0f}"
                )
                figures[f"threads_{threads}_share_{viewers}"] = share
    print(
        json.dumps(
            {
                **asdict(describe_device()),
                "engine": describe_engine(args.model),
                "sha256": sha256_of(args.model),
                "target": TARGET,
                **figures,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
