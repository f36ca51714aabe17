"""One machine of ``edgedet bench --host``: what is missing is sent, engines are built, and the result comes home."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from edgedet.benchmarks.hosts import far_side
from edgedet.benchmarks.hosts.host_list import Host
from edgedet.benchmarks.hosts.ssh import Connection, HostError, LinkError, failure_of, pipes_of, read_lines
from edgedet.benchmarks.latency.result import BenchResult, result_from_json
from edgedet.board.build import files_of_build
from edgedet.engines.table import Package, engine_for, engine_named
from edgedet.errors import InputError
from edgedet.files import sha256_of
from edgedet.progress import Say

BEAT_S = 4.0  # far_side.QUIET_S is five times as long
SPARE_BYTES = 100 << 20  # left on the other machine's disk
_RESULT = "bench.json"
_SOURCE = Path(far_side.__file__).read_text(encoding="utf-8")
_PYTHON = 'p="$HOME/edgedet/bin/python"; [ -x "$p" ] || p=python3; exec "$p" "$@"'  # docs/boards.md makes that one


@dataclass(frozen=True)
class Plan:
    """What every machine measures.

    models:   files of this machine; the results name them by these paths.
    there:    paths of files that lie on every machine already, as engines that were built on it; from the home there,
              where they are relative.
    options:  of ``edgedet bench``, without the models and --json.
    source:   file of pictures that is sent, too; None for the demo's clip.
    to_build: ONNX files of this machine, of which every machine builds a TensorRT engine to measure.
    """

    models: tuple[Path, ...]
    there: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    source: Path | None = None
    to_build: tuple[Path, ...] = ()


class Session:
    """One machine, from the first look to its result.

    builds: a report of ``edgedet build`` for each engine, also of those that an earlier run built.
    """

    def __init__(self, host: Host, connection: Connection, say: Say) -> None:
        """Remember the machine; ``say`` is called with lines that name it, from several threads."""
        self.builds: list[dict[str, Any]] = []
        self._connection = connection
        self._say = lambda line: say(f"{host.name}: {line}")
        self._python = ["sh", "-c", _PYTHON, "edgedet"] if host.python is None else [host.python]

    def measure(self, plan: Plan, archive: Path) -> BenchResult:
        """Send what is missing, build, measure, and return the result, in which refused builds are failures.

        Raises HostError.
        """
        parts = {model: files_of_build(model) for model in plan.to_build}
        sources = () if plan.source is None else (plan.source,)
        hashes = {file: sha256_of(file) for file in (archive, *plan.models, *chain(*parts.values()), *sources)}
        absent = self._send_missing(hashes, _needed_modules(plan))
        package = _last_line(self._run("unpack", hashes[archive], archive.name))
        if absent:
            self._say(f"installing {', '.join(absent)} beside edgedet")
            self._run("install", *absent)
        folder = str(Path(package).parent)
        places = {str(Path(folder, "files", sha256, file.name)): file for file, sha256 in hashes.items()}
        remote = {file: place for place, file in places.items()}
        source = ["--source", *(remote[file] for file in sources)] if sources else []
        failures: list[str] = []
        engines: list[str] = []
        for model, of_model in parts.items():
            try:
                engines.append(self._build(package, [(hashes[file], file.name) for file in of_model], source))
            except LinkError:
                raise
            except HostError as error:
                self._say(f"{model.name}: {error}")
                failures.append(f"{model.name}: {error}")
        models = [*(remote[model] for model in plan.models), *engines, *map(from_home, plan.there)]
        if not models:
            raise HostError("; ".join(failures))
        self._say("measuring")
        arguments = ["bench", "--model", *models, *plan.options, *source, "--json", _RESULT]
        text = self._run_with_heartbeat("run", package, _RESULT, arguments)
        try:
            result = result_from_json(json.loads(_last_line(text)))
        except (ValueError, InputError) as error:
            raise HostError(f"what came back is no result of a benchmark: {error}") from None
        rows = [replace(row, model=str(places.get(row.model, row.model))) for row in result.models]
        return replace(result, models=rows, failures=[*failures, *result.failures])

    def _send_missing(self, hashes: dict[Path, str], modules: Sequence[tuple[Package, ...]]) -> list[str]:
        """Send the files that are not there yet; return what pip is to install there. Raises HostError."""
        about = {
            "files": [(sha256, file.name) for file, sha256 in hashes.items()],
            "modules": [package.module for packages in modules for package in packages],
        }
        facts = _parse_json(self._run("probe", json.dumps(about)))
        absent = _absent(modules, facts["modules"], tuple(facts["python"]))
        missing = [file for file, sha256 in hashes.items() if [sha256, file.name] not in facts["files"]]
        need = sum(file.stat().st_size for file in missing) + SPARE_BYTES
        if facts["free_bytes"] < need:
            raise HostError(f"its disk has {facts['free_bytes'] / 1e6:.0f} MB free, and {need / 1e6:.0f} MB are needed")
        for file in missing:
            self._send(file, hashes[file])
        return absent

    def _build(self, package: str, files: list[tuple[str, str]], source: list[str]) -> str:
        """Return the path there of a model's engine, which is built if it was not yet built on this board.

        files: (SHA-256, name) of each, the ONNX file first.
        """
        name = files[0][1]
        plan = _parse_json(self._run("prepare_build", package, json.dumps(files)))
        report = plan["report"]
        if report is None:
            self._say(f"building an engine of {name}, which may take many minutes")
            arguments = ["build", plan["onnx"], "--out", plan["engine"], *source, "--json", plan["path"]]
            report = _parse_json(self._run_with_heartbeat("build", package, plan["path"], arguments))
        else:
            self._say(f"the engine of {name} is there already")
        self.builds.append(report)
        return str(plan["engine"])

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

    def _run_with_heartbeat(self, action: str, package: str, result: str, arguments: list[str]) -> str:
        """Run edgedet there for a long time, and return the JSON that it writes to the file ``result``."""
        process = self._connection.start([*self._python, "-c", _SOURCE, action, package, result, *arguments])
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
            raise failure_of(code, messages, self._connection.ended)
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


def from_home(path: str) -> str:
    """Return a path on another machine; relative ones begin at the user's home, as with scp."""
    return path if path.startswith(("/", "~")) else f"~/{path}"


def _last_line(output: str) -> str:
    """Return what a program printed, in one line, without what the shell's start-up files printed before it."""
    return (output.strip().splitlines() or [""])[-1]


def _parse_json(output: str) -> Any:
    """Return the JSON that a program printed in its last line; raises HostError."""
    answer = _last_line(output)
    try:
        return json.loads(answer)
    except ValueError:
        raise HostError(f"its Python answered {answer[:80]!r} where JSON was wanted: is it a Python?") from None


def _needed_modules(plan: Plan) -> list[tuple[Package, ...]]:
    """Return what must be importable there: one package of each entry."""
    always = [(Package("numpy", "pip install numpy"),), (Package("cv2", "pip install opencv-python-headless"),)]
    engines = [engine_for(model) for model in (*plan.models, *map(Path, plan.there), *plan.to_build)]
    if plan.to_build:  # onnxruntime runs the ONNX file, by which an engine is judged
        engines.append(engine_named("trt"))
    return [*always, *dict.fromkeys(engine.packages for engine in engines if engine and engine.packages)]


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
