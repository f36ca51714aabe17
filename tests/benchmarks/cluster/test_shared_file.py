"""A model file in a worker: its hash is checked, it is opened once, and few are open at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedet.benchmarks.cluster import shared_file
from edgedet.benchmarks.cluster.shared_file import KEPT_OPEN, SharedFile, open_once
from edgedet.errors import ArtifactError


class Opened:
    """Stands for a detector."""

    def __init__(self, path):
        self.data, self.is_closed = path.read_bytes(), False

    def close(self):
        self.is_closed = True


@pytest.fixture(autouse=True)
def _nothing_open():
    yield
    for _, folder in shared_file._opened.values():
        folder.cleanup()
    shared_file._opened.clear()


def test_a_file_that_arrives_damaged_is_refused():
    file = SharedFile.of("a.onnx", b"model")
    with pytest.raises(ArtifactError, match=r"a\.onnx arrived damaged: its SHA-256 is another one"):
        open_once(replace(file, data=b"nodel"), 1, Opened)


def test_a_file_is_opened_once_and_the_one_unused_for_longest_is_closed():
    files = [SharedFile.of("a.onnx", bytes([number])) for number in range(KEPT_OPEN + 1)]
    opened = [open_once(file, 1, Opened) for file in files[:KEPT_OPEN]]
    assert [one.data for one in opened] == [b"\0", b"\1", b"\2"]
    assert open_once(files[0], 1, Opened) is opened[0]
    open_once(files[KEPT_OPEN], 1, Opened)
    assert [one.is_closed for one in opened] == [False, True, False]
    assert open_once(files[0], 2, Opened) is not opened[0]  # opened in another way
