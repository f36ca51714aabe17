"""The checksum inside edgedet's own .safetensors files: damage is found, and other programs still read the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
from safetensors.torch import load_file, save_file

from edgedet.artifact import META_KEY
from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.info.info import info_of
from edgedet.info.safetensors_file import (
    CHECKSUM_FIELD,
    FORMAT_FIELD,
    NO_CHECKSUM,
    check_checksum,
    read_safetensors_header,
    write_checksum,
)
from edgedet.specs import SPECS


def embedded_in(path: Path) -> dict:
    return json.loads(read_safetensors_header(path)["__metadata__"][META_KEY])


def test_every_flipped_bit_behind_the_length_of_the_header_is_found(tmp_path: Path):
    """Whatever else the bytes say afterwards: the metadata may be no JSON any more, which is refused likewise."""
    path = tmp_path / "tiny.safetensors"
    meta = {FORMAT_FIELD: 2, CHECKSUM_FIELD: NO_CHECKSUM}
    save_file({"a": torch.arange(6.0)}, path, {META_KEY: json.dumps(meta)})
    write_checksum(path)
    assert check_checksum(path, embedded_in(path))
    data = path.read_bytes()
    for place in range(8, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises((CheckpointError, ValueError, LookupError)):
            check_checksum(path, embedded_in(path))


@pytest.fixture(scope="module")
def saved_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = replace(SPECS["tf_efficientdet_lite0"], num_classes=1)
    state = {key: value for key, value in EfficientDet(spec).state_dict().items() if value.dtype == torch.float32}
    path = tmp_path_factory.mktemp("saved") / "mine.safetensors"
    save_checkpoint(Checkpoint(state, spec, ("cup",), "0" * 64, ()), path)
    return path


def test_a_checkpoint_with_one_changed_weight_is_neither_imported_nor_described(saved_checkpoint: Path, tmp_path: Path):
    data = bytearray(saved_checkpoint.read_bytes())
    data[-1000] ^= 1
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    for read in (load_checkpoint, info_of):
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors is damaged, or another program changed it"):
            read(path)


def test_a_whole_checkpoint_is_read_without_a_note_by_us_and_as_any_other_by_the_library(saved_checkpoint: Path):
    checkpoint = load_checkpoint(saved_checkpoint)
    assert (checkpoint.class_names, checkpoint.notes) == (("cup",), ())
    assert set(load_file(saved_checkpoint)) == set(checkpoint.state)


def test_a_checkpoint_that_an_older_edgedet_saved_is_read_and_says_so(saved_checkpoint: Path, tmp_path: Path):
    meta = {k: v for k, v in embedded_in(saved_checkpoint).items() if k not in (FORMAT_FIELD, CHECKSUM_FIELD)}
    path = tmp_path / "old.safetensors"
    save_file(load_file(saved_checkpoint), path, {META_KEY: json.dumps(meta)})
    (note,) = load_checkpoint(path).notes
    assert note.startswith("the file has no checksum")
