"""TensorFlow checkpoints against what TensorFlow restored of them (scripts/make/tf_checkpoint.py).

Damaged ones and hostile archives are refused.
"""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("google_crc32c", reason="needs the export extra")
from tensor_bundles import DATA, INDEX, archive_of

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import tf_checkpoint
from edgedet.export.checkpoints.families.tf_checkpoint import arrays_from_tf_checkpoint, find_index, is_tf_checkpoint

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ARCHIVE = GOLDEN / "tf_checkpoint.tar.gz"


def restored(name="tf_checkpoint"):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture
def folder(tmp_path):
    """The archive's files, unpacked."""
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if member.isreg():
                (tmp_path / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    return tmp_path


def test_averaged_weights_are_those_that_tensorflow_restores():
    arrays, notes = arrays_from_tf_checkpoint(ARCHIVE)
    expected = {
        name.removesuffix("/ExponentialMovingAverage"): value
        for name, value in restored().items()
        if name.endswith("/ExponentialMovingAverage")
    }
    assert set(arrays) == set(expected)
    assert len(arrays) == 7
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.flags.writeable  # torch warns of tensors on others
        np.testing.assert_array_equal(array, expected[name])
    assert notes == ("read the averaged weights (EMA), of 7 tensors",)


def test_a_checkpoint_by_object_gives_the_same_under_the_variables_names():
    """Its plain weights differ from the averages, and it holds a momentum slot for each."""
    arrays, notes = arrays_from_tf_checkpoint(GOLDEN / "tf_object_checkpoint.tar.gz")
    averages = restored("tf_object_checkpoint")
    assert set(arrays) == set(averages)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, averages[name])
    assert notes == ("read the averaged weights (EMA), of 7 tensors",)


@pytest.mark.parametrize("name", ["", "model", INDEX, DATA])
def test_a_folder_or_one_of_its_files_will_do(folder, name):
    path = find_index(folder / name)
    assert path == folder / INDEX
    assert is_tf_checkpoint(path, path.read_bytes()[:512])
    np.testing.assert_array_equal(
        arrays_from_tf_checkpoint(path)[0]["box_net/box-predict/bias"],
        restored()["box_net/box-predict/bias/ExponentialMovingAverage"],
    )


def test_of_several_checkpoints_the_newest_is_read(folder):
    (folder / "old.index").write_bytes(b"")
    assert find_index(folder) == folder / INDEX
    (folder / "checkpoint").unlink()
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints \(model, old\): name one's .index file"):
        find_index(folder)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no .index file"):
        find_index(tmp_path)


def test_no_flipped_bit_goes_unseen(folder):
    """300 of the index and 300 of the data: refused, or in bytes of no tensor that is read."""
    arrays, _ = arrays_from_tf_checkpoint(folder / INDEX)
    rng = random.Random(0)
    refused = 0
    for name in (INDEX, DATA):
        whole = (folder / name).read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(damaged)
            try:
                found, _ = arrays_from_tf_checkpoint(folder / INDEX)
            except CheckpointError:
                refused += 1
            else:
                assert set(found) == set(arrays)
                assert all(np.array_equal(found[key], arrays[key]) for key in arrays)
        (folder / name).write_bytes(whole)
    assert refused > 300


@pytest.mark.parametrize("name", [INDEX, DATA])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_a_cut_file_is_refused(folder, name, share):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError):
        arrays_from_tf_checkpoint(folder / INDEX)


def test_a_missing_data_file_is_named(folder):
    (folder / DATA).unlink()
    with pytest.raises(CheckpointError, match=f"its data file {DATA}, of at most .* is not beside it"):
        arrays_from_tf_checkpoint(folder / INDEX)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_cut_archive_is_refused(tmp_path, share):
    whole = ARCHIVE.read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="cut off or no archive"):
        arrays_from_tf_checkpoint(tmp_path / "cut.tar.gz")


def test_an_archives_paths_and_links_lead_nowhere(folder, tmp_path):
    """Names are taken without their folder, links are not followed, and nothing is written."""
    before = sorted(folder.iterdir())
    files = [("../../evil/" + name, (folder / name).read_bytes()) for name in (INDEX, DATA)]
    path = archive_of(tmp_path / "evil.tar.gz", [("model.index", None), ("/etc/cron.d/x", b"x"), *files])
    assert len(arrays_from_tf_checkpoint(path)[0]) == 7
    assert sorted(folder.iterdir()) == sorted([*before, path])


def test_an_archive_that_unpacks_to_too_much_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_checkpoint, "MAX_BYTES", 1 << 20)
    path = archive_of(tmp_path / "bomb.tar.gz", [("zeros", bytes(4 << 20)), ("model.index", b"")])
    assert path.stat().st_size < 1 << 16
    with pytest.raises(CheckpointError, match="unpacks to more than 1048576 bytes"):
        arrays_from_tf_checkpoint(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_checkpoint, "MAX_MEMBERS", 3)
    with pytest.raises(CheckpointError, match="more than 3 files"):
        arrays_from_tf_checkpoint(archive_of(tmp_path / "many.tar.gz", [(str(n), b"") for n in range(5)]))
