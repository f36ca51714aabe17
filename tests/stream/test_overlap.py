"""Stages beside each other: order is kept, errors arrive, nothing runs on after the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from waiting import wait_until

from edgedet.stream.overlap import RunAhead, map_in_order


def test_a_producer_runs_ahead_by_so_many_items():
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    with closing(RunAhead(items(), 2, "test")) as beside:
        wait_until(lambda: len(made) == 3)
        time.sleep(0.1)
        assert made == [0, 1, 2]  # two wait, one is on its way
        assert list(beside) == list(range(10))


def test_an_error_comes_to_the_reader_after_what_was_before():
    def items():
        yield 1
        raise ValueError("broken")

    with closing(RunAhead(items(), 2, "test")) as beside:
        frames = iter(beside)
        assert next(frames) == 1
        with pytest.raises(ValueError, match="broken"):
            next(frames)


def test_closing_ends_the_thread_and_the_generator_in_it():
    ended_in = []

    def items():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            ended_in.append(threading.current_thread().name)

    beside = RunAhead(items(), 1, "reader")
    assert next(iter(beside)) == 0
    beside.close()
    assert ended_in == ["reader"]
    assert "reader" not in [thread.name for thread in threading.enumerate()]


def test_results_come_in_order_whichever_is_ready_first():
    def slow(number):
        time.sleep(0.03)
        return number, "slow"

    def fast(number):
        return number, "fast"

    results = list(map_in_order([slow, fast], range(6)))
    assert [number for number, _ in results] == list(range(6))
    assert [who for _, who in results] == ["slow", "fast"] * 3


def test_functions_work_side_by_side():
    """Six items by three take two rounds: each waits until three are at work."""
    three = threading.Barrier(3)

    def work(number):
        three.wait()
        return number

    assert list(map_in_order([work] * 3, range(6))) == list(range(6))


def test_each_function_stays_in_its_thread():
    def where(number):
        return threading.get_ident()

    idents = list(map_in_order([where, where], range(8)))
    assert len(set(idents[::2])) == len(set(idents[1::2])) == 1
    assert idents[0] != idents[1]


def test_one_function_takes_an_item_only_when_it_is_wanted():
    """A live frame must not be fetched before its detector is free."""
    taken = []

    def items():
        for number in range(3):
            taken.append(number)
            yield number

    results = map_in_order([lambda number: number], items())
    assert next(results) == 0
    assert taken == [0]


LOWERED = """
import os, sys, threading
from edgedet.stream.overlap import lower_priority
os.nice(int(sys.argv[1]))
if os.geteuid() == 0:
    os.setuid(65534)  # root may do more than a user
def lowered():
    lower_priority()
    print(os.getpriority(os.PRIO_PROCESS, 0))
    inherits = threading.Thread(target=lambda: (lower_priority(), print(os.getpriority(os.PRIO_PROCESS, 0))))
    inherits.start()
    inherits.join()
thread = threading.Thread(target=lowered)
thread.start()
thread.join()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads priorities of their own")
@pytest.mark.parametrize("more", [3, 15])
def test_a_thread_of_low_priority_is_below_its_own_process_also_where_that_is_niced(more):
    """A user may not raise a thread again: under `nice -n 15` a fixed niceness of 10 was an error."""
    done = subprocess.run([sys.executable, "-c", LOWERED, str(more)], capture_output=True, text=True, check=False)
    own = min(os.nice(0) + more, 19)
    lower = min(own + 10, 19)
    assert done.stdout.split() == [str(lower), str(lower), str(own)], done.stderr
