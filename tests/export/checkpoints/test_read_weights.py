"""What is read from weight files, and what is refused before it costs memory or runs code."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
from safetensors.torch import save_file

from edgedet.artifact import MAX_META_BYTES, META_KEY
from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.read_weights import read_weights

STATE = {"backbone.conv_stem.weight": torch.arange(6.0).reshape(2, 3)}


class RunsACommand:
    """What an attacker's pickle looks like."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as raised:
        read_weights(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_read_in_both_of_torchs_formats(tmp_path, zipped):
    torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "a.pth")
    assert torch.equal(found.arrays["backbone.conv_stem.weight"], STATE["backbone.conv_stem.weight"])
    assert found.notes == ()


def test_a_training_dictionary_gives_weights_and_name(tmp_path):
    saved = {"arch": "tf_efficientdet_d7", "args": argparse.Namespace(lr=0.1), "epoch": 3, "state_dict": STATE}
    torch.save(saved, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found.model == "tf_efficientdet_d7"
    assert found.notes == ("read state_dict",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_asks_for_code_is_refused_and_runs_nothing(tmp_path, zipped):
    marker = tmp_path / "ran"
    torch.save({**STATE, "x": RunsACommand(marker)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    refused(
        tmp_path / "a.pth", r"asks for \w+\.system, which could run code.*torch\.save\(model\.state_dict\(\), FILE\)"
    )
    (tmp_path / "b.pth").write_bytes(pickle.dumps(RunsACommand(marker)))
    refused(tmp_path / "b.pth", "asks for|is damaged")
    assert not marker.exists()


def test_a_whole_pickled_model_is_refused_with_a_way_out(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"asks for torch\.nn\.modules\.linear\.Linear, which could run code")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>not found</html>", b"\n<html lang=en>"])
def test_a_web_page_is_called_one(tmp_path, page):
    (tmp_path / "a.pth").write_bytes(page)
    refused(tmp_path / "a.pth", "is a web page, no weights")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.h5"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    refused(tmp_path / name, "is empty")


@pytest.mark.parametrize(
    "content", [b"not weights at all", bytes(range(256)) * 8, b"PK\x03\x04" + bytes(100), b"\x80\x02."]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    refused(tmp_path / "a.pth", "damaged|holds")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path, zipped, part):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.randn(5000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, "damaged")


def test_an_archive_that_would_grow_is_not_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    refused(tmp_path / "a.pth", "unpacks to 50000000, which torch.save never makes")


def test_a_tensor_that_claims_more_than_it_stores_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    refused(tmp_path / "a.pth", "claims more than 268435456 numbers")


@pytest.mark.parametrize("saved", [[1, 2], {"epoch": 3}, {"state_dict": {"a": "text"}}, torch.zeros(3)])
def test_a_file_without_a_dictionary_of_tensors_is_refused(tmp_path, saved):
    torch.save(saved, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "no dictionary of tensors")


def test_safetensors_are_read_with_what_edgedet_wrote(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors", {META_KEY: '{"spec": {}, "class_names": ["a"]}'})
    assert read_weights(tmp_path / "a.safetensors").embedded["class_names"] == ["a"]
    save_file({"module." + name: value for name, value in STATE.items()}, tmp_path / "b.safetensors")
    assert set(read_weights(tmp_path / "b.safetensors").arrays) == set(STATE)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("[1]", "metadata that edgedet did not write"),
        ("{", "damaged"),
        (" " * (MAX_META_BYTES + 1), "bytes of metadata"),
    ],
)
def test_metadata_that_is_not_ours_is_refused(tmp_path, metadata, message):
    save_file(STATE, tmp_path / "a.safetensors", {META_KEY: metadata})
    refused(tmp_path / "a.safetensors", message)


def test_safetensors_that_are_cut_off_are_refused(tmp_path):
    save_file({"a": torch.randn(500)}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    for part in (4, 40, len(content) - 1):
        (tmp_path / "b.safetensors").write_bytes(content[:part])
        refused(tmp_path / "b.safetensors", "damaged or no safetensors file")


def test_a_keras_file_is_told_by_its_first_bytes(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "a.weights", "w") as file:
        file["stem/kernel:0"] = np.ones(2, np.float32)
    assert list(read_weights(tmp_path / "a.weights").arrays) == ["stem/kernel:0"]


def test_a_keras_archive_is_refused_with_what_to_save(tmp_path):
    """automl writes none; its layers' names, by which tensors are recognised, are not in it."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")
    refused(
        tmp_path / "model.keras",
        r"is a \.keras archive, which lacks .*model\.save_weights\('FILE\.h5'\)",
    )


def test_a_file_that_is_not_there_is_named(tmp_path):
    refused(tmp_path / "a.pth", "there is no checkpoint .*: name a file")
