"""Thousands of frames and many faults: nothing leaks, and each picture of the camera is accounted for.

A real camera on loopback (Motion JPEG over HTTP), real capture, real recordings and lines; the engine is a fast fake.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from cameras import MjpegCamera, mjpeg_camera, number_of
from media import META

from edgedet.detector import Detector
from edgedet.engines.fake import FakeEngine
from edgedet.stream.cameras.capture import CaptureOptions
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.loop import RunSummary, run_frames
from edgedet.stream.outputs.jsonl import jsonl_sink
from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.stream.sources import SourceOptions, open_source

cv2 = pytest.importorskip("cv2", reason="cameras are read by OpenCV")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="handles and memory are read in /proc")

TIMEOUT_S = 0.3
KEEP_BYTES = 2_000_000
RATE = 300  # pictures a second; unpaced, a thousand of them would wait in the socket when the connection breaks
BREAKS = ("kill", "hang up", "freeze")  # what must be noticed; garbage and sizes need not break the stream


def rss_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles():
    return len(os.listdir("/proc/self/fd"))


@dataclass
class Soak:
    """What was seen: memory in MB after a tenth of the run and at its end, threads and handles before and after."""

    summary: RunSummary
    produced: int
    faults: int
    breaks: int
    numbers: list[int]
    rss_mb: list[float]
    threads: tuple[int, int]
    handles: tuple[int, int]


def inject(camera: MjpegCamera, kind: str) -> None:
    """Do one fault; each leaves the camera running in the end."""
    if kind == "kill":
        camera.kill()
        camera.start()
    elif kind == "hang up":
        camera.hang_up()
    elif kind == "garbage":
        camera.garbage = 30_000
    elif kind == "size":
        camera.size_wh = (camera.size_wh[0], 128 if camera.size_wh[1] == 64 else 64)
    elif kind == "freeze":
        camera.frozen.set()
        threading.Timer(2 * TIMEOUT_S, camera.frozen.clear).start()


def soak(folder: Path, frames: int, faults: int) -> Soak:
    """Run until the camera's ``frames`` pictures came through, with faults evenly in between."""
    kinds = random.Random(0).choices(
        ["kill", "hang up", "garbage", "size", "freeze"], weights=[3, 4, 3, 3, 1], k=faults
    )
    numbers: list[int] = []
    memory: list[float] = []
    done = 0
    options = SourceOptions(CaptureOptions(timeout_s=TIMEOUT_S), Recovery(timeout_s=TIMEOUT_S, first_wait_s=0.02))
    keeper = Keeper(KEEP_BYTES)
    resource_tracker.ensure_running()  # multiprocessing's; it stays
    before = threading.active_count(), handles()
    with mjpeg_camera(RATE) as camera, Detector((META, FakeEngine(META, []))) as detector:
        source = open_source(f"cam={camera.url}", lambda: False, options)

        def watch(result):
            nonlocal done
            numbers.append(number_of(result.frame.bgr))
            captured = source.stats()[0].captured
            if done < faults and captured > (done + 1) * frames / (faults + 1):
                inject(camera, kinds[done])
                done += 1
            if captured > len(memory) * frames / 10:
                memory.append(rss_mb())

        recording = recording_sink(
            lambda name: folder / "cam.mkv", lambda: 10.0, 2.0, keeper, lambda one: one.frame.bgr
        )
        lines = jsonl_sink(folder / "out.jsonl", META.class_names, True, keeper)
        with recording as record, lines as write:
            summary = run_frames(
                source,
                [detector.detect],
                [watch, record, write],
                lambda: source.stats()[0].captured >= frames,
            )
    after = threading.active_count(), handles()
    breaks = sum(kind in BREAKS for kind in kinds[:done])
    return Soak(summary, camera.produced, done, breaks, numbers, memory, *zip(before, after, strict=True))


def judge(run: Soak, folder: Path, frames: int, faults: int) -> None:
    one = run.summary.cameras[0]
    assert run.faults == faults
    assert one.captured >= frames
    assert one.captured == one.processed + one.dropped + one.skipped + one.stale
    lost = run.produced - one.captured  # on the way when a connection broke
    assert lost >= 0, "more was captured than produced"
    assert run.summary.frames == len(run.numbers)
    assert one.processed - run.summary.frames in (0, 1, 2)  # at the end, one in the detector's hands, one for the sinks
    assert run.numbers == sorted(set(run.numbers)), "a picture came twice, or late"
    assert one.gaps >= 0.7 * run.breaks  # two that come close together are one
    assert run.threads[1] == run.threads[0]
    assert run.handles[1] == run.handles[0]
    assert max(run.rss_mb[2:]) < 1.05 * run.rss_mb[2], run.rss_mb
    kept = [path for path in folder.iterdir() if path.name != "out.jsonl"]
    assert sum(path.stat().st_size for path in kept) <= KEEP_BYTES
    texts = [path.read_text() for path in sorted(folder.glob("*.jsonl"))]
    assert all(text.endswith("\n") for text in texts if text)
    assert all(json.loads(line)["camera"] == "cam" for text in texts for line in text.splitlines())


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")


@pytest.mark.slow
def test_five_thousand_frames_and_ten_faults(tmp_path, quiet):
    judge(soak(tmp_path, 5000, 10), tmp_path, 5000, 10)


@pytest.mark.slow(first=True)
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_frames_and_two_hundred_faults(tmp_path, quiet):
    run = soak(tmp_path, 100_000, 200)
    print(run.summary.cameras[0], run.produced, run.rss_mb)
    judge(run, tmp_path, 100_000, 200)
