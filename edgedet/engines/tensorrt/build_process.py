"""Build an engine in a process of its own, and show the progress.

Ctrl-C ends the child at once, whatever TensorRT does, and all of its memory is freed. Where the system kills the child
because memory is short, the caller survives and can report it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List

from ... import errors
from ...errors import DeviceError, EdgeDetError
from .board import import_tensorrt
from .build import MEMORY_ADVICE, BuildOptions, Recipe, build_plan

_SHOWN_EVERY_S, _LOGGED_EVERY_S = 0.5, 10.0  # less often in a log, which keeps every line


@dataclass(frozen=True)
class BuildResult:
    """The duration of a build, and the size of its result."""

    seconds: float
    bytes: int
    layers: int


def build(recipe: Recipe, options: BuildOptions, plan: Path) -> BuildResult:
    """Build in a child process and write the plan to a file; progress goes to stderr.

    Raises the build's own error, or DeviceError where the system killed it.
    """
    job = json.dumps({"recipe": asdict(recipe), "options": asdict(options), "plan": str(plan)})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as child_stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "edgedet.engines.tensorrt.build_process", job],
            stdout=subprocess.PIPE,
            stderr=child_stderr,
            env=environment,
            universal_newlines=True,
        )
        lines: List[Dict[str, Any]] = []
        reader = threading.Thread(target=_collect_lines, args=(child, lines), daemon=True)
        reader.start()
        try:
            with _ProgressLine(recipe.name, started, lines) as progress_line:
                while child.poll() is None:
                    progress_line.renew()
                    reader.join(_SHOWN_EVERY_S)
        finally:
            if child.poll() is None:  # Ctrl-C, or an error here
                child.kill()
                child.wait()
            reader.join()
            if child.stdout is not None:
                child.stdout.close()
        child_stderr.seek(0)
        return _read_result(child.returncode, lines, child_stderr.read(), recipe, time.monotonic() - started)


def _collect_lines(child: Any, lines: List[Dict[str, Any]]) -> None:
    for line in child.stdout:
        try:
            value = json.loads(line)
        except ValueError:  # a library's own words
            continue
        if isinstance(value, dict):
            lines.append(value)


def _read_result(code: int, lines: List[Dict[str, Any]], stderr: str, recipe: Recipe, seconds: float) -> BuildResult:
    last = lines[-1] if lines else {}
    if code == 0 and "bytes" in last:
        return BuildResult(seconds, last["bytes"], last["layers"])
    if "error" in last:
        raise getattr(errors, last["error"], EdgeDetError)(last["message"])
    if code == -signal.SIGKILL:
        raise DeviceError(
            f"the system killed the build of {recipe.name}, most likely for want of memory. {MEMORY_ADVICE}"
        )
    tail = stderr.strip().splitlines()[-1:] or [f"exit code {code}"]
    raise DeviceError(f"the build of {recipe.name} ended without a result: {tail[0]}.")


class _ProgressLine:
    """A line on stderr with the recipe that is being built, the time since its start, and TensorRT's progress."""

    def __init__(self, name: str, started: float, lines: List[Dict[str, Any]]) -> None:
        self._name, self._started, self._lines = name, started, lines
        self._terminal = sys.stderr.isatty()
        self._every_s = _SHOWN_EVERY_S if self._terminal else _LOGGED_EVERY_S
        self._next = started

    def __enter__(self) -> _ProgressLine:
        return self

    def renew(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every_s
        last = self._lines[-1] if self._lines else {}
        phase = f", {last['phase']} {last['done']}/{last['steps']}" if "phase" in last else ""
        text = f"building {self._name}: {now - self._started:.0f} s{phase}"
        print(f"\r{text}\x1b[K" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def __exit__(self, *_: Any) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def main(argv: List[str]) -> int:
    """Run one job in this process; lines of JSON on stdout report to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches both; no traceback from here
    job = json.loads(argv[0])
    recipe = replace(Recipe(**job["recipe"]), to_float=tuple(job["recipe"]["to_float"]))

    def report(**values: Any) -> None:
        print(json.dumps(values), flush=True)

    try:
        trt = import_tensorrt(f"building {recipe.name}")
        plan, layers = build_plan(
            trt,
            recipe,
            BuildOptions(**job["options"]),
            lambda phase, done, steps: report(phase=phase, done=done, steps=steps),
        )
        Path(job["plan"]).write_bytes(plan)
    except EdgeDetError as error:
        report(error=type(error).__name__, message=str(error))
        return 1
    report(bytes=len(plan), layers=layers)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
