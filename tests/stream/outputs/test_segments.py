"""Segments are named by time and the oldest go first; other files stay."""

from __future__ import annotations

import re

import pytest

from edgedet.errors import InputError
from edgedet.stream.outputs import segments
from edgedet.stream.outputs.segments import Keeper, format_stamp, parse_bytes


def test_a_time_in_a_files_name():
    assert format_stamp(0.0) == "19700101T000000000Z"
    assert format_stamp(1_000_000_000.25) == "20010909T014640250Z"


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("500 mb", 5 * 10**8), ("1.5KiB", 1536), ("100", 100), ("2GiB", 2**31)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "10 apples", "1e3"])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match="wanted a size such as 10GB"):
        parse_bytes(text)


def write(keeper, base, utc_s, size):
    path = keeper.new(base, utc_s)
    path.write_bytes(bytes(size))
    keeper.done(path)
    return path


def test_the_oldest_go_when_there_is_too_much(tmp_path):
    """Five of 100 bytes under a limit of 250: the three oldest go, of whichever camera."""
    keeper = Keeper(250)
    bases = [tmp_path / "door.mkv", tmp_path / "yard.mkv"]
    paths = [write(keeper, bases[n % 2], 1000.0 + n, 100) for n in range(5)]
    assert keeper.prune() == paths[:3]
    assert sorted(tmp_path.iterdir()) == sorted(paths[3:])
    assert keeper.prune() == []


def test_an_open_segment_counts_and_stays(tmp_path):
    keeper = Keeper(250)
    closed = write(keeper, tmp_path / "a.mkv", 1.0, 100)
    opened = keeper.new(tmp_path / "a.mkv", 2.0)
    opened.write_bytes(bytes(300))
    assert keeper.prune() == [closed]
    assert list(tmp_path.iterdir()) == [opened]


def test_an_open_mp4_counts_under_its_temporary_name(tmp_path):
    keeper = Keeper(250)
    closed = write(keeper, tmp_path / "a.mp4", 1.0, 100)
    opened = keeper.new(tmp_path / "a.mp4", 2.0)
    (tmp_path / f".{opened.stem}-x7.mp4").write_bytes(bytes(200))
    assert keeper.prune() == [closed]


def test_segments_of_earlier_runs_count_and_other_files_stay(tmp_path):
    earlier = [write(Keeper(), tmp_path / "a.mkv", float(n), 100) for n in range(3)]
    mine = tmp_path / "a-holiday.mkv"
    other = tmp_path / f"a-b-{format_stamp(0.0)}.mkv"
    for path in (mine, other):
        path.write_bytes(bytes(1000))
    keeper = Keeper(150)
    new = write(keeper, tmp_path / "a.mkv", 10.0, 100)
    assert keeper.prune() == earlier
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, new])


def test_a_clock_that_was_wrong_costs_no_new_recording(tmp_path):
    """Thirty files that say 2099, because the board had no clock yet; what is written next is newer all the same."""
    wrong_s = 4_070_908_800.0
    early = Keeper()
    for n in range(30):
        write(early, tmp_path / "a.mkv", wrong_s + n, 100)
    keeper = Keeper(1000)  # another run, with the right time
    new = [write(keeper, tmp_path / "a.mkv", 1_700_000_000.0 + n, 100) for n in range(5)]
    assert len(keeper.prune()) == 25
    assert set(new) <= set(tmp_path.iterdir())


def test_files_of_versions_without_numbers_are_the_oldest(tmp_path):
    old = [tmp_path / f"a-{format_stamp(5e9 + n)}.mkv" for n in (1, 0)]
    for path in old:
        path.write_bytes(bytes(100))
    keeper = Keeper(150)
    new = write(keeper, tmp_path / "a.mkv", 10.0, 100)
    assert keeper.prune() == old[::-1]
    assert list(tmp_path.iterdir()) == [new]


def test_what_a_killed_process_left_is_removed(tmp_path):
    stamp = format_stamp(5.0)
    left = tmp_path / f".a-{stamp}-abc_12.mp4"
    others = [tmp_path / f".b-{stamp}-abc_12.mp4", tmp_path / ".a-abc.mp4", tmp_path / f".a-b-{stamp}-abc.mp4"]
    for path in (left, *others):
        path.touch()
    Keeper().new(tmp_path / "a.mp4", 9.0)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_without_a_limit_nothing_goes(tmp_path):
    keeper = Keeper()
    write(keeper, tmp_path / "a.mkv", 1.0, 10_000)
    assert keeper.prune() == []


def test_a_full_disk_takes_the_oldest_too(tmp_path, monkeypatch):
    """The limit is far, but the disk has less room than is to be left free."""
    free = iter([10, 10, 10_000])
    monkeypatch.setattr(segments.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": next(free)}))
    keeper = Keeper(10**9, reserve_bytes=1000)
    paths = [write(keeper, tmp_path / "a.mkv", float(n), 100) for n in range(3)]
    assert keeper.prune() == paths[:2]


def test_a_segment_that_somebody_else_removed_is_no_fault(tmp_path):
    keeper = Keeper(50)
    write(keeper, tmp_path / "a.mkv", 1.0, 100).unlink()
    assert len(keeper.prune()) == 1


def test_names_hold_base_and_time(tmp_path):
    path = Keeper().new(tmp_path / "front.door.webm", 1.5)
    assert re.fullmatch(r"front\.door-19700101T000001500Z-000001\.webm", path.name)
