"""The reader of Keras weight files: what it reads, and what it refuses before it costs memory or leaves the file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")
h5py = pytest.importorskip("h5py", reason="needs the export extra")

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families.keras_h5 import arrays_from_h5


def test_arrays_of_a_keras_file_are_read_without_the_optimizer(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["box_net/box_net/box-0/bias:0"] = np.arange(3, dtype=np.float16)
        file["optimizer_weights/SGD/iter:0"] = np.int64(3)
        file.create_group("resample_p7")
    arrays = arrays_from_h5(path)
    assert list(arrays) == ["box_net/box_net/box-0/bias:0"]
    np.testing.assert_array_equal(arrays["box_net/box_net/box-0/bias:0"], np.float32([0, 1, 2]))


def with_external_link(file, folder):
    file["a"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def with_soft_link(file, _folder):
    file["a"] = h5py.SoftLink("/b")


def with_external_storage(file, folder):
    file.create_dataset("a", (4,), "f4", external=[(str(folder / "raw"), 0, 16)])


def with_virtual_data(file, folder):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "data", (4,))
    file.create_virtual_dataset("a", layout)


def with_a_ring(file, _folder):
    file["a/b"] = file.create_group("a")


def with_a_huge_claim(file, _folder):
    file.create_dataset("a", (1 << 40,), "f4", chunks=(1 << 16,), compression="gzip")


def with_text(file, _folder):
    file["a"] = "text"


def in_keras_3(file, _folder):
    file["layers/conv2d/vars/0"] = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (with_external_link, "points outside itself at a"),
        (with_soft_link, "points outside itself at a"),
        (with_external_storage, "keeps a in another file"),
        (with_virtual_data, "keeps a in another file"),
        (with_a_ring, "nests its groups deeper than"),
        (with_a_huge_claim, "claims 4398046511104 bytes of arrays"),
        (with_text, "a holds no floating-point numbers"),
        (in_keras_3, "layout of Keras 3"),
    ],
)
def test_an_h5_file_that_is_no_weight_file_is_refused(tmp_path, fill, message):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        fill(file, tmp_path)
    with pytest.raises(CheckpointError, match=message) as raised:
        arrays_from_h5(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89HDF\r\n\x1a\n" + bytes(40)])
def test_a_damaged_h5_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged or no HDF5 file"):
        arrays_from_h5(path)


def test_a_truncated_h5_file_is_refused(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(10_000, np.float32)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(CheckpointError, match="is damaged or no HDF5 file"):
        arrays_from_h5(path)
