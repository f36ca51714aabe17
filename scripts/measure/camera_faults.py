"""Measure what failing cameras cost the one that works: a table of docs/cameras.md.

    python scripts/measure/camera_faults.py [--seconds 40]

Four RTSP cameras (H.264, 640x360, 25 frames a second) of GStreamer's server on this machine; three of them stand behind
a proxy that fails from the start or after 12 s. A real `edgedet run` records all four and detects with a fake model, so
that the stream half alone is measured; then it gets SIGTERM. The server and the run share the processor, so nothing
else should run.
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
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tests/support/streams")]

from faults import fault_proxy  # noqa: E402  # of the tests
from media import write_fake_model  # noqa: E402

SERVER = ROOT / "tests" / "support" / "streams" / "rtsp_server.py"
FPS, SIZE_WH = 25, (640, 360)
LATE_S = 12.0  # how long cameras work that fail later
HEADER = f"{'three other cameras':34} first s  captured  sent  processed  longest gap s  SIGTERM s  PSS MB  load"
END_S = 40.0  # a run that has not ended this long after SIGTERM is killed


@dataclass(frozen=True)
class Case:
    """How the three other cameras fail: modes of tests/support/streams/faults.py, from the start or after LATE_S."""

    modes: tuple[str, ...]
    from_start: bool = False


CASES = (
    Case(()),
    Case(("pass", "pass", "pass")),
    Case(("hole", "hole", "hole"), from_start=True),
    Case(("freeze", "freeze", "freeze")),
    Case(("drip", "drip", "drip")),
    Case(("refuse", "refuse", "refuse")),
    Case(("hole", "freeze", "drip"), from_start=True),
    Case(("refuse", "freeze", "drip")),
)


@dataclass(frozen=True)
class Outcome:
    """What the working camera got; times in seconds.

    first_s:     from the start of the program to the end of the first frame's detection.
    sent:        frames that the camera sent from its first frame to SIGTERM.
    longest_gap_s: between the ends of two of its detections.
    sigterm_s:   from SIGTERM to the end of the program; END_S where it had to be killed.
    pss_mb:      proportional set size of the program and its children.
    """

    modes: tuple[str, ...]
    first_s: float
    sent: int
    captured: int
    processed: int
    longest_gap_s: float
    sigterm_s: float
    pss_mb: float
    threads: int
    load: float


def process_tree(pid: int) -> list[int]:
    """Return this process and all below it."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid, *(below for child in children for below in process_tree(child))]


def memory_and_threads(pid: int) -> tuple[float, int]:
    """Return the proportional set size in megabytes, and the number of threads, of a process and all below it."""
    kilobytes = threads = 0
    for process in process_tree(pid):
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        kilobytes += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        threads += len(list(Path(f"/proc/{process}/task").iterdir()))
    return kilobytes / 1e3, threads


def detection_times(log: Path, camera: str) -> list[float]:
    """Return when each detection of this camera ended, in seconds since 1970."""
    results = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        datetime.fromisoformat(result["utc"].replace("Z", "+00:00")).timestamp() + result["age_ms"] / 1e3
        for result in results
        if result["camera"] == camera
    ]


def measure(case: Case, server_port: int, seconds: float) -> Outcome:
    """Run edgedet on the working camera and the failing ones."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first_mode = (lambda mode: mode) if case.from_start else (lambda mode: "pass")
        proxies = [stack.enter_context(fault_proxy(server_port, first_mode(mode))) for mode in case.modes]
        command = [sys.executable, "-m", "edgedet", "run", str(write_fake_model(folder / "model.fake"))]
        for name, port in [("live", server_port), *((f"other{k}", proxy.port) for k, proxy in enumerate(proxies))]:
            command += ["--camera", f"{name}=rtsp://127.0.0.1:{port}/clock"]
        command += ["--save", f"{folder}/recordings/", "--segment", "5", "--threads", "1"]
        command += ["--jsonl", str(folder / "results.jsonl"), "--json", str(folder / "summary.json")]
        messages = stack.enter_context((folder / "messages").open("w+"))
        start = time.time()
        run = subprocess.Popen(command, stdout=messages, stderr=messages)
        try:
            time.sleep(LATE_S)
            for proxy, mode in zip(proxies, case.modes, strict=True):
                proxy.mode = mode
            time.sleep(seconds - LATE_S)
            if run.poll() is not None:
                messages.seek(0)
                sys.exit(f"edgedet run ended by itself: {messages.read()}")
            pss_mb, threads = memory_and_threads(run.pid)
            asked = time.time()
            run.terminate()
            try:
                run.wait(END_S)
            except subprocess.TimeoutExpired:
                run.kill()
            ended = time.time()
        finally:
            run.kill()
            run.wait()
        times = detection_times(folder / "results.jsonl", "live")
        cameras = json.loads((folder / "summary.json").read_text())["cameras"]
        live = next(camera for camera in cameras if camera["name"] == "live")
    return Outcome(
        modes=case.modes,
        first_s=times[0] - start,
        sent=round((asked - times[0]) * FPS),
        captured=live["captured"],
        processed=live["processed"],
        longest_gap_s=max(after - before for before, after in pairwise(times)),
        sigterm_s=ended - asked,
        pss_mb=pss_mb,
        threads=threads,
        load=os.getloadavg()[0],
    )


def row_of(case: Case, outcome: Outcome) -> str:
    """Return a line of the table under HEADER."""
    name = ", ".join(case.modes) + (" from the start" if case.from_start else "") or "none"
    return (
        f"{name:34} {outcome.first_s:7.1f} {outcome.captured:9} {outcome.sent:5} {outcome.processed:10} "
        f"{outcome.longest_gap_s:14.2f} {outcome.sigterm_s:10.2f} {outcome.pss_mb:7.0f} {outcome.load:5.1f}"
    )


def main() -> int:
    """Print a row for each case, then all as JSON."""
    parser = argparse.ArgumentParser(description="What failing cameras cost the one that works.")
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each run (default: %(default)g)")
    parser.add_argument("--python", default=shutil.which("python3", path=os.defpath), help="one with GStreamer's gi")
    args = parser.parse_args()
    if args.seconds <= LATE_S + 5:
        parser.error(f"--seconds must be over {LATE_S + 5:g}, since some cameras fail after {LATE_S:g} s")
    command = [args.python, str(SERVER), "0", *map(str, SIZE_WH), str(FPS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            outcomes = []
            print(HEADER)
            for case in CASES:
                outcome = measure(case, port, args.seconds)
                outcomes.append(asdict(outcome))
                print(row_of(case, outcome), flush=True)
        finally:
            server.kill()
    print(json.dumps(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
