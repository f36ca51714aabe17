"""The longest tests are started first, one by each process, and no test is lost."""

from __future__ import annotations

import pytest
from many_processes import spread


def test_each_process_begins_with_one_of_the_longest():
    """Ten tests for four processes are given out as 2, 2, 3 and 3, which is pytest-xdist's rule."""
    assert spread("ABC", "defghij", 4) == list("AdBeCfghij")


@pytest.mark.parametrize(("longest", "others"), [("", ""), ("A", ""), ("ABCDEFG", "x"), ("", "xyz"), ("AB", "xyz")])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_test_runs_once(longest: str, others: str, processes: int):
    assert sorted(spread(longest, others, processes)) == sorted(longest + others)
