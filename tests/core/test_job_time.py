"""The time left of a whole job is told from what is done of it."""

from __future__ import annotations

from typing import List

import pytest

from edgedet.job_time import Job
from edgedet.progress import begin_step, whole_job, with_progress


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _job() -> tuple:
    clock = _Clock()
    return Job({"look": 10.0, "think": 30.0, "write": 60.0}, clock), clock


def test_the_time_left_is_that_of_all_steps_at_the_speed_so_far() -> None:
    job, clock = _job()
    job.begin("look")
    assert job.left_s() is None
    clock.now_s = 5.0
    job.begin("think")  # 10 of 100 took 5 s
    assert job.left_s() == pytest.approx(45.0)
    clock.now_s = 10.0
    job.advance("think", 0.5)  # 25 of 100 took 10 s
    assert job.left_s() == pytest.approx(30.0)
    assert job.left() == "about 30 s left"


def test_a_step_that_is_passed_over_is_no_longer_left() -> None:
    job, clock = _job()
    job.begin("look")
    clock.now_s = 5.0
    job.begin("write")  # 40 of 100
    assert job.left_s() == pytest.approx(5.0 * 60 / 40)


def test_time_outside_of_the_steps_does_not_count() -> None:
    job, clock = _job()
    job.begin("look")
    clock.now_s = 5.0
    job.begin("something else")
    clock.now_s = 1000.0
    assert job.left_s() == pytest.approx(45.0)
    job.begin("look")  # done already
    assert job.left_s() == pytest.approx(45.0)


def test_a_step_never_goes_back() -> None:
    job, clock = _job()
    job.begin("think")
    clock.now_s = 10.0
    job.advance("think", 0.5)
    before = job.left_s()
    job.begin("think")
    job.advance("think", 0.1)
    job.advance("look", 1.0)
    assert job.left_s() == before


def test_bars_and_lines_of_a_job_tell_the_time_left_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm", reason="the progress bar is tqdm's")
    job, clock = _job()
    said: List[str] = []
    with whole_job(job):
        begin_step("look", said.append, "looking at 2")
        for _ in with_progress([1, 2], "a part of it", "frame"):
            clock.now_s += 60.0
        begin_step("think", said.append)
    assert said == ["looking at 2", "think (about 18 min 0 s left)"]  # 10 of 100 took 120 s
    begin_step("think", said.append)  # outside of a job
    assert said[-1] == "think"
    assert "frames" in capsys.readouterr().err
