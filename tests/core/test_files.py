"""Files appear whole, with the rights of any new file, and without a setting of the process being changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgedet.files import atomic_path


def test_a_file_has_the_rights_that_any_new_file_has_and_the_umask_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(mask: int) -> int:
        raise AssertionError("the umask is of the whole process: another thread may write a file meanwhile")

    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        with atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("{}")
        (tmp_path / "plain").write_text("{}")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == (tmp_path / "plain").stat().st_mode & 0o777 == 0o640


def test_a_block_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("{")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
