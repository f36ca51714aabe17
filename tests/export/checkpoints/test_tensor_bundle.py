"""The index and the data of a TensorFlow checkpoint: what is read, and what is refused before it costs memory."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("google_crc32c", reason="needs the export extra")
from tensor_bundles import ENTRY, HEADER, INDEX, VALUE, archive_of, block, bundle, entry_of, index_with, varint

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import tensor_bundle
from edgedet.export.checkpoints.families.tf_checkpoint import arrays_from_tf_checkpoint


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
    two = index_with([(b"", b"\x08\x02"), (b"a", entry_of(1, VALUE)), (b"b", entry_of(1, VALUE, shard=1))])
    checkpoint = bundle(two, VALUE + b"12")
    assert checkpoint.array("a").tolist() == [1.5]
    with pytest.raises(CheckpointError, match="its data files hold more than 10 bytes"):
        checkpoint.array("b")
