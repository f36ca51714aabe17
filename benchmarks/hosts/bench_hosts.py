"""Run ``edgedet bench`` on other machines, all at the same time, and bring the results home.

A machine that fails, or vanishes in the middle, is named, and the others go on. Nothing is left running there: see
``far_side``.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedet.benchmarks.hosts import far_side
from edgedet.benchmarks.hosts.host_list import Host
from edgedet.benchmarks.hosts.package_archive import write_archive
from edgedet.benchmarks.hosts.ssh import (
    Connection,
    HostError,
    describe_failure,
    pipes_of,
    read_lines,
)
from edgedet.benchmarks.latency.result import BenchResult, json_from_result, result_from_json
from edgedet.engines.table import Package, engine_for
from edgedet.errors import InputError
from edgedet.files import sha256_of
from edgedet.progress import Say

BEAT_S = 4.0  # far_side.QUIET_S is five times as long
SPARE_BYTES = 100 << 20  # left on the other machine's disk
_ARCHIVE = "edgedet.zip"
_RESULT = "bench.json"
_SOURCE = Path(far_side.__file__).read_text(encoding="utf-8")
_PYTHON = 'p="$HOME/edgedet/bin/python"; [ -x "$p" ] || p=python3; exec "$p" "$@"'  # docs/boards.md makes that one


@dataclass(frozen=True)
class Plan:
    """What every machine measures.

    models:  files of this machine; the results name them by these paths.
    there:   paths of files that lie on every machine already, as engines that were built on it; from the home there,
             where they are relative.
    options: of ``edgedet bench``, without the models and --json.
    source:  file of pictures that is sent, too; None for the demo's clip.
    """

    models: tuple[Path, ...]
    there: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    source: Path | None = None


@dataclass(frozen=True)
class HostResult:
    """What one machine answered: a result, or why there is none."""

    host: str
    result: BenchResult | None = None
    failure: str | None = None


def json_from_hosts(results: Sequence[HostResult]) -> dict[str, Any]:
    """Return all results as ``--json`` writes them."""
    return {
        "hosts": [
            {
                "host": item.host,
                "failure": item.failure,
                "result": None if item.result is None else json_from_result(item.result),
            }
            for item in results
        ],
    }


def bench_hosts(hosts: Sequence[Host], plan: Plan, say: Say) -> list[HostResult]:
    """Measure on all machines at once; returns one entry for each, in their order, after Ctrl-C, too.

    say: called with one line a step, which names the machine; from several threads.
    """
    for model in (*plan.models, *map(Path, plan.there)):
        if engine_for(model) is None:
            raise InputError(f"{model} is no model file that edgedet knows.")
    connections = [Connection(host) for host in hosts]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(hosts)) as pool:
        archive = Path(folder) / _ARCHIVE
        write_archive(archive)
        started = [
            pool.submit(_bench_host, host, connection, plan, archive, say)
            for host, connection in zip(hosts, connections, strict=True)
        ]
        try:
            wait(started)
        except KeyboardInterrupt:
            for connection in connections:
                connection.end_all()
            wait(started)
    return [future.result() for future in started]


def _bench_host(host: Host, connection: Connection, plan: Plan, archive: Path, say: Say) -> HostResult:
    try:
        result = _Session(host, connection, say).measure(plan, archive)
    except HostError as error:
        say(f"{host.name}: {error}")
        return HostResult(host.name, failure=str(error))
    say(f"{host.name}: done")
    return HostResult(host.name, result=result)


class _Session:
    """One machine, from the first look to its result."""

    def __init__(self, host: Host, connection: Connection, say: Say) -> None:
        self._connection = connection
        self._say = lambda line: say(f"{host.name}: {line}")
        self._python = ["sh", "-c", _PYTHON, "edgedet"] if host.python is None else [host.python]

    def measure(self, plan: Plan, archive: Path) -> BenchResult:
        """Send what is missing, measure, and return the result. Raises HostError."""
        files = [archive, *plan.models, *([] if plan.source is None else [plan.source])]
        hashes = {file: sha256_of(file) for file in files}
        modules = _needed_modules((*plan.models, *map(Path, plan.there)))
        about = json.dumps(
            {"files": [(hashes[file], file.name) for file in files], "modules": list(_importable(modules))}
        )
        answer = _last_line(self._run("probe", about))
        try:
            found = json.loads(answer)
        except ValueError:
            raise HostError(f"its Python answered {answer[:80]!r} where JSON was wanted: is it a Python?") from None
        absent = _absent(modules, found["modules"], tuple(found["python"]))
        missing = [file for file in files if [hashes[file], file.name] not in found["files"]]
        need = sum(file.stat().st_size for file in missing) + SPARE_BYTES
        if found["free_bytes"] < need:
            raise HostError(f"its disk has {found['free_bytes'] / 1e6:.0f} MB free, and {need / 1e6:.0f} MB are needed")
        for file in missing:
            self._send(file, hashes[file])
        package = _last_line(self._run("unpack", hashes[archive], archive.name))
        if absent:
            self._say(f"installing {', '.join(absent)} beside edgedet")
            self._run("install", *absent)
        folder = str(Path(package).parent)
        places = {str(Path(folder, "files", hashes[file], file.name)): file for file in files}
        remote = {file: place for place, file in places.items()}
        arguments = [
            "bench",
            "--model",
            *(remote[model] for model in plan.models),
            *map(_from_home, plan.there),
            *plan.options,
            "--json",
            _RESULT,
        ]
        if plan.source is not None:
            arguments += ["--source", remote[plan.source]]
        text = self._measure(package, arguments)
        try:
            result = result_from_json(json.loads(_last_line(text)))
        except (ValueError, InputError) as error:
            raise HostError(f"what came back is no result of a benchmark: {error}") from None
        return replace(
            result, models=[replace(row, model=str(places.get(row.model, row.model))) for row in result.models]
        )

    def _run(self, action: str, *arguments: str) -> str:
        return self._connection.run([*self._python, "-c", _SOURCE, action, *arguments])

    def _send(self, file: Path, sha256: str) -> None:
        size = file.stat().st_size
        self._say(f"sending {file.name}, {size / 1e6:.1f} MB")
        sent, told = 0, 0

        def count(number: int) -> None:
            nonlocal sent, told
            sent += number
            tenths = 10 * sent // max(size, 1)
            if size > 20e6 and tenths > told:  # smaller files are there before one reads a second line
                told = tenths
                self._say(f"sent {10 * tenths} % of {file.name}")

        self._connection.send_file(file, [*self._python, "-c", _SOURCE, "receive", sha256, file.name], count)

    def _measure(self, package: str, arguments: list[str]) -> str:
        """Run the benchmark with a heartbeat, and return its JSON."""
        self._say("measuring")
        process = self._connection.start([*self._python, "-c", _SOURCE, "run", package, _RESULT, *arguments])
        stdin, stdout, stderr = pipes_of(process)
        messages: list[str] = []

        def take(line: str) -> None:
            messages.append(line)
            self._say(line.removeprefix("edgedet: "))

        ended = threading.Event()
        beats = threading.Thread(target=_beat, args=(stdin, ended), daemon=True)
        reader = threading.Thread(target=read_lines, args=(stderr, take), daemon=True)
        beats.start()
        reader.start()
        text = stdout.read().decode(errors="replace")
        code = self._connection.finish(process)
        ended.set()
        beats.join()
        reader.join()
        stdout.close()
        stderr.close()
        if code or not text:
            raise HostError(describe_failure(code, messages, self._connection.ended))
        return text


def _beat(stdin: Any, ended: threading.Event) -> None:
    """Write a byte every few seconds, until the program has ended or the link is gone."""
    with suppress(OSError, ValueError):
        while not ended.is_set():
            stdin.write(b".")
            stdin.flush()
            ended.wait(BEAT_S)
    with suppress(OSError):
        stdin.close()


def _from_home(path: str) -> str:
    """Return a path on another machine; relative ones begin at the user's home, as with scp."""
    return path if path.startswith(("/", "~")) else f"~/{path}"


def _last_line(output: str) -> str:
    """Return what a program printed, in one line, without what the shell's start-up files printed before it."""
    return (output.strip().splitlines() or [""])[-1]


def _needed_modules(models: Sequence[Path]) -> list[tuple[Package, ...]]:
    """Return what must be importable there: one package of each entry."""
    always = [(Package("numpy", "pip install numpy"),), (Package("cv2", "pip install opencv-python-headless"),)]
    engines = [engine_for(model) for model in models]
    return [*always, *dict.fromkeys(engine.packages for engine in engines if engine and engine.packages)]


def _importable(modules: Sequence[tuple[Package, ...]]) -> list[str]:
    return [package.module for packages in modules for package in packages]


def _absent(modules: Sequence[tuple[Package, ...]], there: Sequence[str], python: tuple[int, ...]) -> list[str]:
    """Return what pip is to install there; raises HostError for what it cannot."""
    absent: list[str] = []
    for packages in modules:
        if any(package.module in there for package in packages):
            continue
        fitting = [package for package in packages if package.python <= python] or packages
        words = shlex.split(fitting[0].install)
        if words[:2] != ["pip", "install"]:
            raise HostError(f"it has no {fitting[0].module}: {fitting[0].install}")
        absent += words[2:]
    return absent
