"""A virtual board: Debian in qemu with a V4L2 camera, where the documents' commands run (docs/virtual-board.md)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from documents import commands, words_after
from installs import ROOT, build, copy_sources
from media import write_fake_model

SCRIPT = ROOT / "scripts/virtual_board.sh"
CANNOT = 77  # exit code of the script where packages cannot be had
CACHE = Path(os.environ.get("EDGEDET_BOARD_CACHE", Path.home() / ".cache/edgedet-board"))
ARCH = os.environ.get("EDGEDET_BOARD_ARCH", "amd64")
LONG = bool(os.environ.get("EDGEDET_BOARD_LONG"))  # hours, not minutes: the counts of docs/virtual-board.md
PATIENCE = {"amd64": 6, "arm64": 20}[ARCH]  # what limits in seconds are multiplied by: on busy cores all is slow

PI = "raspberry-pi.md"
PI_PACKAGES, PI_VENV, PI_CAMERA = "2. On the Pi: packages", "3. A virtual environment that sees them", "4. Camera"
SERVICE = ("web.md", "As a service")
PI_VENV_FOLDER, SERVICE_VENV = "/home/pi/edgedet", "/opt/edgedet/current"  # what those commands make
PYAV = "/opt/pyav"
OF_THE_HOST = ("client.py", "monitor.py")  # scripts that the image does not depend on
NOT_DEBIANS = ["python3-picamera2"]  # Raspberry Pi's own packages

# Beyond what the documents install: recordings by PyAV, GStreamer's elements for pipelines, what builds a wheel.
MORE_PACKAGES = ["gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "gstreamer1.0-tools"]
MORE_WHEELS = ["av", "tornado", "prometheus-client", "tqdm", "setuptools", "wheel"]


def apt_packages() -> list[str]:
    """What the documents for boards install by apt."""
    lines = [*commands(PI, PI_PACKAGES), *commands("boards.md", "Use the system's OpenCV")]
    names = sorted({name for line in lines for name in words_after(line, "apt", "install")})
    return [name for name in names if name not in NOT_DEBIANS]


def wheel_requirements() -> list[str]:
    """What the documents for boards install by pip, edgedet itself left out."""
    lines = [*commands(PI, PI_VENV), *commands("boards.md", "Use the system's OpenCV")]
    names = {name for line in lines for name in words_after(line, "pip", "install")}
    return sorted(name for name in names if not name.startswith((".", "/", "$"))) + MORE_WHEELS


def baking_script() -> str:
    """The documents' commands that make virtual environments: with an emulated processor they take minutes.

    PyAV, which only some tests record by, lies beside them.
    """
    lines = ["cd ~", "cp /tmp/bake/*.whl /tmp/bake/contents ~", "cp -r /tmp/bake/deploy ~"]
    lines += [line for line in commands(PI, PI_VENV) if "doctor" not in line]
    lines += [line for line in commands(*SERVICE) if "update.sh" in line]
    lines += [f"sudo {SERVICE_VENV}/bin/pip install --target {PYAV} av"]
    lines += ["rm ~/edgedet-*.whl"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Answer:
    """What a command on the board printed (stdout and stderr), and its exit code."""

    code: int
    text: str
    seconds: float


class VirtualBoard:
    """The running board."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {**os.environ, "ARCH": ARCH}

    def script(self, action: str, *arguments: str | Path, limit_s: float = 1800.0, **environment: str) -> Answer:
        """Call virtual_board.sh; skips where the board cannot be had."""
        began = time.monotonic()
        done = subprocess.run(
            [str(SCRIPT), action, str(self.folder), *map(str, arguments)],
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s * PATIENCE,
        )
        answer = Answer(done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - began)
        if action == "build" and answer.code == CANNOT:
            pytest.skip(answer.text.strip().splitlines()[-1])
        return answer

    def must(self, action: str, *arguments: str | Path, **environment: str) -> Answer:
        """Call virtual_board.sh, which must succeed."""
        answer = self.script(action, *arguments, **environment)
        assert answer.code == 0, f"{action} failed with {answer.code}: {answer.text}"
        return answer

    def ask(self, command: str, user: str = "root", limit_s: float = 120.0) -> Answer:
        """Run a shell command on the board, whatever its exit code."""
        return self.script("run", command, AS=user, LIMIT=str(limit_s * PATIENCE))

    def run(self, command: str, user: str = "root", limit_s: float = 120.0, code: int = 0) -> str:
        """Run a shell command on the board, which must end with ``code``; return what it prints."""
        answer = self.ask(command, user, limit_s)
        assert answer.code == code, f"{command}\nended with {answer.code}, not {code}:\n{answer.text}"
        return answer.text

    def value(self, unit: str, name: str) -> str:
        """A property of a systemd unit."""
        return self.run(f"systemctl show {unit} --property {name} --value").strip()

    def until(self, command: str, limit_s: float = 120.0) -> float:
        """Repeat a command on the board until it succeeds; return after how many seconds of ours."""
        tries = int(limit_s * PATIENCE * 2)
        loop = f"for i in $(seq {tries}); do ( {command} ) > /dev/null 2>&1 && exit 0; sleep 0.5; done; exit 1"
        answer = self.ask(loop, limit_s=limit_s + 10)
        if answer.code:
            shown = self.ask(f"( {command} ); journalctl --no-pager -n 30 -o cat", limit_s=60)
            raise AssertionError(f"not within {limit_s * PATIENCE:g} s: {command}\n{shown.text}")
        return answer.seconds

    def json_lines(self, path: str) -> list[dict[str, Any]]:
        """The objects of a JSON lines file on the board; every line must be whole."""
        text = self.run(f"cat {path}")
        assert not text or text.endswith("\n"), f"{path} ends in half a line: {text[-200:]!r}"
        return [json.loads(line) for line in text.splitlines()]

    def put(self, source: Path, target: str, user: str = "root") -> None:
        """Copy a file to the board."""
        self.must("put", source, target, AS=user)


def build_board(work: Path) -> VirtualBoard:
    """Return the board of this machine's cache, with its image; build what is not there."""
    payload = work / "payload"
    payload.mkdir()
    wheel = build(copy_sources(work / "tree", links=False), "wheel", payload)
    shutil.copytree(ROOT / "deploy", payload / "deploy")
    with zipfile.ZipFile(wheel) as archive:  # the same for the same files, whenever they were packed
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        (payload / "contents").write_bytes(archive.read(record))
    bake = work / "bake"
    shutil.copytree(payload, bake)
    (bake / "bake.sh").write_text(baking_script())
    packages = ",".join([*apt_packages(), *MORE_PACKAGES])
    wheels = " ".join(wheel_requirements())
    building = SCRIPT.read_text().split("# --- running")[0].split("# --- building")[1]
    inside = [ROOT / "deploy/update.sh", *sorted((ROOT / "scripts/virtual_board").glob("*.*"))]
    inside = [path for path in inside if path.name not in OF_THE_HOST]
    parts = [packages, wheels, baking_script(), building, *(path.read_text() for path in inside)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    board = VirtualBoard(CACHE / key)
    print(f"\nvirtual board: {ARCH}, image in {board.folder}", flush=True)
    answer = board.must("build", packages, wheels, bake / "bake.sh")
    print(answer.text, end="", flush=True)
    write_fake_model(payload / "model.fake")
    _add_other_wheels(work, payload)
    return board


def _add_other_wheels(work: Path, payload: Path) -> None:
    """A wheel of a later version beside a damaged model, and one that runs models on files and opens no camera."""
    tree = work / "tree"
    package = tree / "edgedet/__init__.py"
    package.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99.0"', package.read_text()))
    build(tree, "wheel", payload / "next")
    (payload / "next/damaged.tflite").write_bytes(b"TFL3" * 100)
    with open(tree / "edgedet/stream/live.py", "a", encoding="utf-8") as file:
        file.write('\n\ndef _broken(*_):\n    raise SourceError("broken on purpose.")\n\n\n')
        file.write("LiveSource.__init__ = _broken\n")
    build(tree, "wheel", payload / "broken")


class BoardRun:
    """``edgedet run`` with the fake model in the background of the board, as the user pi, from the Pi page's venv."""

    def __init__(self, board: VirtualBoard, name: str, options: str, model: str = "/mnt/payload/model.fake") -> None:
        self.board = board
        self.stem = f"/home/pi/{name}"
        self._command = (
            f"rm -f {self.stem}.*; nohup ~/edgedet/bin/edgedet run {model} --threads 1 {options} "
            f"--jsonl {self.stem}.jsonl --json {self.stem}.json > {self.stem}.log 2>&1 & echo $! > {self.stem}.pid"
        )

    def __enter__(self) -> BoardRun:
        self.board.run(self._command, user="pi")
        self.board.until(f"test -s {self.stem}.jsonl || ! kill -0 $(cat {self.stem}.pid)")
        assert self.frames(), f"no frame came: {self.log()}"
        return self

    def __exit__(self, *_: object) -> None:
        self.board.ask(f"kill -KILL $(cat {self.stem}.pid)")

    def frames(self) -> int:
        """How many frames have been written."""
        return int(self.board.ask(f"cat {self.stem}.jsonl 2> /dev/null | wc -l").text)

    def log(self) -> str:
        """What the run printed."""
        return self.board.run(f"cat {self.stem}.log")

    def wait_for_frames(self, more: int = 3, limit_s: float = 60.0) -> float:
        """Wait until so many frames more have come; return the seconds."""
        goal = self.frames() + more
        return self.board.until(f'test "$(wc -l < {self.stem}.jsonl)" -ge {goal}', limit_s)

    def stop(self) -> dict[str, Any]:
        """End it as systemd would; return the summary, after checking exit and lines."""
        self.board.run(f"kill -TERM $(cat {self.stem}.pid)")
        self.board.until(f"! kill -0 $(cat {self.stem}.pid)", 30)
        assert "Traceback" not in self.log(), self.log()
        summary: dict[str, Any] = json.loads(self.board.run(f"cat {self.stem}.json"))
        assert len(self.board.json_lines(f"{self.stem}.jsonl")) == summary["frames"]
        return summary
