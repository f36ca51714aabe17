"""TensorFlow checkpoints against what TensorFlow restored of them (scripts/make/tf_checkpoint.py), and hostile ones."""

from __future__ import annotations

import io
import random
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")
google_crc32c = pytest.importorskip("google_crc32c", reason="needs the export extra")

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import tensor_bundle, tf_checkpoint
from edgedet.export.checkpoints.families.tf_checkpoint import arrays_from_tf_checkpoint, find_index, is_tf_checkpoint

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ARCHIVE = GOLDEN / "tf_checkpoint.tar.gz"
DATA, INDEX = "model.data-00000-of-00001", "model.index"


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


def archive_of(path, members):
    """members: (name, content or None for a symbolic link to /etc/passwd)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


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


def varint(value):
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def block(records, compress=None):
    content = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in records)
    content += struct.pack("<II", 0, 1)
    content = (compress(content) + b"\1") if compress else content + b"\0"
    return content + masked(content)


def index_with(records, compress=None):
    """A table of one data block, by LevelDB's rules."""
    data = block(records, compress)
    index = block([(b"~", varint(0) + varint(len(data) - 5))])
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + tensor_bundle.MAGIC


HEADER = (b"", b"\x08\x01")  # one data file
ONE = np.float32([1.5]).tobytes()
ENTRY = b"\x08\x01\x12\x04\x12\x02\x08\x01\x28\x04\x35" + masked(ONE)  # float, (1,), 4 bytes


def bundle(index, data=ONE):
    return tensor_bundle.TensorBundle(index, lambda _shard, _shards: data)


def test_a_block_compressed_by_snappy_is_read():
    """TensorFlow reads such tables; it has not written them since 1.2."""
    snappy = pytest.importorskip("cramjam", reason="needs cramjam").snappy
    index = index_with([HEADER, (b"a", ENTRY)], lambda content: bytes(snappy.compress_raw(content)))
    assert bundle(index).array("a").tolist() == [1.5]
    with pytest.raises(CheckpointError, match="a block of the index is damaged"):
        bundle(index_with([HEADER], lambda _content: b"\x05\xff\xff"))


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([(b"a", ENTRY)], "has no header"),
        ([(b"", b"\x08\x01\x10\x01")], "big-endian"),
        ([(b"", b"\x08\xff\xff\x7f")], "has 2097151 data files"),
        ([HEADER, (b"a", ENTRY + b"\x3a\x00")], "saved in slices"),
        ([HEADER, (b"a", b"\x08\x01\x12\x0b\x12\x09\x08\x80\x80\x80\x80\x80\x80\x80\x40")], "this is no weight"),
        ([HEADER, (b"a", b"\x08")], "the checkpoint's index is damaged"),
        ([HEADER, (b"a", b"\x0a\x00")], "field 1 is no number"),
        ([HEADER, (b"\xff", ENTRY)], "the checkpoint's index is damaged"),
    ],
)
def test_an_index_that_claims_nonsense_is_refused(records, complaint):
    with pytest.raises(CheckpointError, match=complaint) as raised:
        bundle(index_with(records))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (ENTRY + b"\x28\x08", "claims 8 bytes"),
        (ENTRY + b"\x20\x02", "the data file ends before a"),
        (ENTRY + b"\x18\x07", "lies in data file 7, but the checkpoint has 1"),
        (ENTRY[:-4] + b"abcd", "its checksum is not the one"),
    ],
)
def test_a_tensor_that_is_not_where_it_should_be_is_refused(entry, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        bundle(index_with([HEADER, (b"a", entry)])).array("a")


def test_an_index_of_too_many_tensors_is_refused(monkeypatch):
    monkeypatch.setattr(tensor_bundle, "MAX_ENTRIES", 3)
    with pytest.raises(CheckpointError, match="more than 3 tensors"):
        bundle(index_with([HEADER, *((bytes([97 + n]), ENTRY) for n in range(5))]))


def entry_of(shape, data, shard=0):
    """A BundleEntryProto of floats at the start of a data file."""
    dim = b"\x08" + varint(shape)
    dims = b"\x12" + varint(len(dim)) + dim
    return (
        b"\x08\x01\x12"
        + varint(len(dims))
        + dims
        + (b"\x18" + varint(shard) if shard else b"")
        + b"\x28"
        + varint(4 * shape)
        + b"\x35"
        + masked(data)
    )


def test_tensors_that_share_their_bytes_are_counted_before_they_are_read(tmp_path):
    """260 tensors of the same 4 MB: an archive of 13 KB would take 1.1 GB, and with more names any memory."""
    data = bytes(4 << 20)
    index = index_with([HEADER, *((f"{n:04}".encode(), entry_of(1 << 20, data)) for n in range(260))])
    path = archive_of(tmp_path / "shared.tar.gz", [("model.index", index), ("model.data-00000-of-00001", data)])
    with pytest.raises(
        CheckpointError, match="its tensors claim 1090519040 bytes, but at most 1073741824 are expected"
    ):
        arrays_from_tf_checkpoint(path)


def test_blocks_that_overlap_are_refused():
    """An index of 1.5 KB could name a block of 20,000 records 20,000 times."""
    data = block([HEADER, (b"a", ENTRY)])
    handle = varint(0) + varint(len(data) - 5)
    index = block([(b"~", handle)] * 20)
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(index) - 5)
    with pytest.raises(CheckpointError, match="blocks of the checkpoint's .index overlap"):
        bundle(data + index + footer.ljust(40, b"\0") + tensor_bundle.MAGIC)


def test_a_name_said_again_and_again_counts_each_time(monkeypatch):
    monkeypatch.setattr(tensor_bundle, "MAX_ENTRIES", 3)
    with pytest.raises(CheckpointError, match="more than 3 tensors"):
        bundle(index_with([HEADER, *[(b"a", ENTRY)] * 5]))


def test_a_name_of_a_thousand_bytes_is_the_longest():
    """Names share their beginnings, so a block of 5 MB could hold 50,000 names of 2 MB."""
    assert list(bundle(index_with([HEADER, (b"a" * 1000, ENTRY)])).entries) == ["a" * 1000]
    with pytest.raises(CheckpointError, match="a name is longer than 1000 bytes"):
        bundle(index_with([HEADER, (b"a" * 1001, ENTRY)]))


def test_a_large_index_is_not_read(tmp_path):
    with open(tmp_path / INDEX, "wb") as file:
        file.truncate(tensor_bundle.MAX_INDEX + 1)  # takes no place on the disk
    with pytest.raises(CheckpointError, match="its .index is larger than 67108864 bytes"):
        arrays_from_tf_checkpoint(tmp_path / INDEX)


def test_data_files_are_read_up_to_a_limit_for_all(monkeypatch):
    monkeypatch.setattr(tensor_bundle, "MAX_DATA", 10)
    two = index_with([(b"", b"\x08\x02"), (b"a", entry_of(1, ONE)), (b"b", entry_of(1, ONE, shard=1))])
    checkpoint = bundle(two, ONE + b"12")
    assert checkpoint.array("a").tolist() == [1.5]
    with pytest.raises(CheckpointError, match="its data files hold more than 10 bytes"):
        checkpoint.array("b")
