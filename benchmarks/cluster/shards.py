"""Run one function on many items in shards, by Ray; results come back in the order of the items.

A shard whose worker ends (killed, out of memory, its machine gone) is run again; where that happens twice, its items
are run one by one, and the one that ends its worker twice more is named in the results. Everything else goes on.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from edgedet.child_process import delay_interrupts
from edgedet.errors import EdgeDetError, InputError, require
from edgedet.progress import LOG_EVERY_S, TERMINAL_EVERY_S

INSTALL = "pip install 'edgedet[cluster]'"
SHARD = 16  # items: docs/scaling.md says why
_IN_FLIGHT = 2  # shards a worker: one that runs and one that waits, so memory is bounded
_TRIES = 2
_CONNECT_S = 5.0


@dataclass(frozen=True)
class ClusterOptions:
    """Where the work is done.

    workers: processes of this machine; None with an address.
    address: of a running Ray cluster, as host:6379 or ray://host:10001; None for this machine alone.
    threads: CPU threads of each worker.
    """

    workers: int | None = None
    address: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Lost:
    """Stands for the result of an item that ended its worker twice when it ran alone."""

    reason: str


@dataclass
class _Shard:
    first: int
    items: list[Any]
    tries: int = 0


@dataclass
class Throughput:
    """Items that each machine has done, since this was made."""

    items: dict[str, int] = field(default_factory=dict)
    start_s: float = field(default_factory=time.monotonic)

    def add(self, machine: str, count: int) -> None:
        """Count items of a machine."""
        self.items[machine] = self.items.get(machine, 0) + count

    def lines(self, noun: str) -> list[str]:
        """Return a line for each machine: how many items it did, and how many a second."""
        seconds = time.monotonic() - self.start_s
        return [f"{machine}: {count} {noun}, {count / seconds:.1f} a second" for machine, count in self.items.items()]


@contextmanager
def ray_session(options: ClusterOptions) -> Iterator[Any]:
    """Yield the module ``ray``, connected; workers of this machine end with the block, also after Ctrl-C.

    Raises MissingDependency without Ray, InputError where there is no cluster at the address, or none of its machines
    has as many CPUs as a worker takes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send figures of this machine to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's next default; without it, it warns
    if options.address is None:  # by Ray's default, 15, workers beside other programs starve
        os.environ.setdefault("RAY_worker_niceness", "0")
    ray = require("ray", "--workers and --ray", INSTALL)
    try:
        with delay_interrupts():  # ended in the middle of it, Ray's own processes would live a minute longer
            _connect(ray, options)
        _check_room(ray, options)
        with redirect_stdout(sys.stderr):  # Ray prints there that a worker has ended
            yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, options: ClusterOptions) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if options.address is None:
            ray.init(num_cpus=options.workers, include_dashboard=False, **quiet)
        else:
            _check_answers(options.address)
            ray.init(address=options.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if options.address is None:
            raise InputError(f"Ray could not start its workers: {reason}.") from None
        raise InputError(
            f"no Ray cluster answers at {options.address}: {reason}. Start one with `ray start --head`."
        ) from None


def _check_room(ray: Any, options: ClusterOptions) -> None:
    """Raise InputError where no machine can hold a worker: Ray would wait for one for ever."""
    if options.address is not None and (most := max(_cpus(ray), default=0)) < options.threads:
        raise InputError(
            f"no machine of the Ray cluster at {options.address} has {options.threads} CPUs for a worker (--threads); "
            f"the largest has {most}. Take --threads {max(most, 1)} or less."
        )


def _cpus(ray: Any) -> list[int]:
    """Return the number of CPUs of each machine of the cluster, as Ray was told."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _check_answers(address: str) -> None:
    """Raise ConnectionError where nobody listens: Ray itself would try for minutes. "auto" is Ray's own."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not separator or not port.isdigit():
        raise ConnectionError("an address is HOST:PORT, as head:6379")
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from None


def run_in_shards(
    ray: Any,
    work: Callable[[Any, Sequence[Any]], list[Any]],
    shared: Any,
    items: Sequence[Any],
    options: ClusterOptions,
    load: Callable[[Any], Any] = lambda item: item,
    shard_size: int = SHARD,
    title: str = "items",
    throughput: Throughput | None = None,
    each: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Return the results of ``work(shared, shard)`` for all shards, in the order of ``items``.

    work:   importable function; returns one result for each item of its shard. Errors that it raises end everything.
    shared: sent to each machine once.
    load:   makes of an item what is sent, as the bytes of its file; called when a worker will soon be free.
    each:   called with the index and the result of each item as soon as it is there; it may print lines.
    Results of items that end their worker are ``Lost``.
    """
    bar = require("tqdm", "--workers").tqdm
    remote = ray.remote(num_cpus=1 if options.address is None else options.threads, max_retries=0)(_run_shard)
    shared_ref = ray.put(shared)
    waiting = deque(
        _Shard(first, list(items[first : first + shard_size])) for first in range(0, len(items), shard_size)
    )
    results: list[Any] = [None] * len(items)
    running: dict[Any, _Shard] = {}
    every_s = TERMINAL_EVERY_S if os.isatty(2) else LOG_EVERY_S
    with bar(total=len(items), desc=title, leave=False, mininterval=every_s) as progress:
        while waiting or running:
            while waiting and len(running) < _IN_FLIGHT * _count_workers(ray, options):
                shard = waiting.popleft()
                running[remote.remote(work, shared_ref, [load(item) for item in shard.items])] = shard
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(done)
            try:
                machine, outcomes = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, EdgeDetError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:  # its worker or its machine has ended
                lost = _run_again(shard, error, waiting)
                if lost is None:
                    continue
                machine, outcomes = "", [lost]
            results[shard.first : shard.first + len(outcomes)] = outcomes
            if each is not None:
                with bar.external_write_mode():  # the bar makes room for lines
                    for offset, result in enumerate(outcomes):
                        each(shard.first + offset, result)
            progress.update(len(outcomes))
            if throughput is not None and machine:
                throughput.add(machine, len(outcomes))
    return results


def _run_again(shard: _Shard, error: Exception, waiting: deque[_Shard]) -> Lost | None:
    """Put a shard whose worker has ended back in front: whole, then item by item; then return that it is lost."""
    shard.tries += 1
    if shard.tries < _TRIES:
        waiting.appendleft(shard)
    elif len(shard.items) > 1:
        singles = [_Shard(shard.first + offset, [item]) for offset, item in enumerate(shard.items)]
        waiting.extendleft(reversed(singles))
    else:
        return Lost(f"its worker ended twice ({type(error).__name__})")
    return None


def _count_workers(ray: Any, options: ClusterOptions) -> int:
    if options.workers is not None:
        return options.workers
    return max(1, sum(cpus // options.threads for cpus in _cpus(ray)))


def _run_shard(
    work: Callable[[Any, Sequence[Any]], list[Any]], shared: Any, items: Sequence[Any]
) -> tuple[str, list[Any]]:
    """Runs in a worker."""
    return socket.gethostname(), work(shared, items)
