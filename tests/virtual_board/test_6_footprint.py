"""What edgedet takes of the board: disk by part, memory, time of imports, time from power to the first frame."""

from __future__ import annotations

import json

import pytest
from virtual_board import VirtualBoard

pytestmark = pytest.mark.board

SIZES = """
import json, pathlib, sys
site = next(p for p in map(pathlib.Path, sys.path) if p.name == "site-packages")
def mb(path):
    return round(sum(f.stat().st_blocks * 512 for f in [path, *path.rglob("*")] if not f.is_symlink()) / 1e6, 1)
parts = [path for path in site.iterdir() if path.is_dir() and not path.name.endswith(("-info", "__pycache__"))]
sizes = {path.name: mb(path) for path in parts}
print(json.dumps(dict(sorted(sizes.items(), key=lambda item: -item[1]))))
"""
ENGINES = ("ai_edge_litert", "onnxruntime", "tflite_runtime")
NEEDED_BY_ENGINES = ("ml_dtypes", "google", "flatbuffers", "tqdm", "backports")  # of ai-edge-litert's metadata
IMPORTS = """
import time
began = time.process_time(); import numpy; a = time.process_time(); import cv2; b = time.process_time()
import edgedet, edgedet.commands.run; c = time.process_time()
print(round(a - began, 2), round(b - a, 2), round(c - b, 2))
"""


def test_edgedet_itself_takes_little_of_the_disk(board: VirtualBoard, figure):
    sizes = json.loads(board.run(f"~/edgedet/bin/python -c '{SIZES}'", user="pi"))
    figure("installed beside apt's OpenCV and numpy, MB by part", sizes)
    without_engine = sum(size for name, size in sizes.items() if name not in (*ENGINES, *NEEDED_BY_ENGINES))
    figure("installed without OpenCV, engine and what the engine needs, MB", round(without_engine, 1))
    assert without_engine < 60
    assert sizes["edgedet"] < 25


def test_the_running_service_takes_little_memory(board: VirtualBoard, figure):
    pids = board.run("cat /sys/fs/cgroup/system.slice/edgedet.service/cgroup.procs").split()
    shares = [int(board.run(f"sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/{pid}/smaps_rollup")) for pid in pids]
    figure("memory of the service by process, proportional, MB", [round(share / 1e3) for share in shares])
    assert sum(shares) < 250_000


def test_how_long_a_start_takes(board: VirtualBoard, figure):
    numpy_s, cv2_s, edgedet_s = map(float, board.run(f"~/edgedet/bin/python -c '{IMPORTS}'", user="pi").split())
    figure("CPU s of the emulated processor: import numpy, cv2, edgedet", [numpy_s, cv2_s, edgedet_s])
    ready_us = int(board.value("edgedet", "ActiveEnterTimestampMonotonic"))
    started_us = int(board.value("edgedet", "ExecMainStartTimestampMonotonic"))
    figure("from the start of the service to its first frame, emulated, s", round((ready_us - started_us) / 1e6, 1))
    assert edgedet_s < cv2_s + numpy_s  # edgedet's own share is the smaller one
