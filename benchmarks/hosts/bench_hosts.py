"""Run ``edgedet bench`` on other machines, all at the same time, and bring the results home.

A machine that fails, or vanishes in the middle, is named, and the others go on. Nothing is left running there: see
``far_side``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.benchmarks.hosts.host_list import Host
from edgedet.benchmarks.hosts.package_archive import write_archive
from edgedet.benchmarks.hosts.session import Plan, Session
from edgedet.benchmarks.hosts.ssh import Connection, HostError
from edgedet.benchmarks.latency.result import BenchResult, json_from_result
from edgedet.engines.table import engine_for, model_suffixes
from edgedet.errors import InputError
from edgedet.progress import Say

_ARCHIVE = "edgedet.zip"


@dataclass(frozen=True)
class HostResult:
    """What one machine answered: a result, or why there is none; and the reports of the engines that it built."""

    host: str
    result: BenchResult | None = None
    failure: str | None = None
    builds: tuple[dict[str, Any], ...] = ()


def json_from_hosts(results: Sequence[HostResult]) -> dict[str, Any]:
    """Return all results as ``--json`` writes them."""
    return {
        "hosts": [
            {
                "host": item.host,
                "failure": item.failure,
                "result": None if item.result is None else json_from_result(item.result),
                "builds": list(item.builds),
            }
            for item in results
        ],
    }


def bench_hosts(hosts: Sequence[Host], plan: Plan, say: Say) -> list[HostResult]:
    """Measure on all machines at once; returns one entry for each, in their order, after Ctrl-C, too.

    say: called with one line a step, which names the machine; from several threads.
    """
    for model in (*plan.models, *map(Path, plan.there), *plan.to_build):
        if engine_for(model) is None:
            raise InputError(
                f"{model} is no model file that edgedet runs: wanted a name ending in {', '.join(model_suffixes())}."
            )
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
    session = Session(host, connection, say)
    try:
        result = session.measure(plan, archive)
    except HostError as error:
        say(f"{host.name}: {error}")
        return HostResult(host.name, failure=str(error), builds=tuple(session.builds))
    say(f"{host.name}: done")
    return HostResult(host.name, result=result, builds=tuple(session.builds))
