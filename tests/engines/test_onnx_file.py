"""The head of an ONNX file, read without the onnx package."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper
from trt_models import SPEC, save_changed, write_models

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.engines import onnx_file
from edgedet.engines.onnx_file import read_onnx, with_checksum
from edgedet.errors import ArtifactError
from edgedet.files import sha256_of


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def test_metadata_opset_and_hash_are_read(int8: Path):
    found = read_onnx(int8)
    assert (found.meta.spec, found.meta.precision, found.meta.class_names) == (SPEC, "int8", ("cat", "dog"))
    assert (found.opset, found.typed, found.sha256) == (17, False, sha256_of(int8))
    typed = read_onnx(int8.with_name("tiny_int8_fp16.onnx"))
    assert (typed.opset, typed.typed) == (19, True)


def test_another_domain_s_opset_is_not_taken_for_onnx_s(int8: Path, tmp_path: Path):
    model = onnx.load(int8)
    model.opset_import.insert(0, helper.make_opsetid("com.example", 40))
    model.opset_import.append(helper.make_opsetid("org.example", 41))
    save_changed(model, tmp_path / "two.onnx")
    assert read_onnx(tmp_path / "two.onnx").opset == 17


def test_the_onnx_package_is_not_imported():
    assert "onnx" not in vars(onnx_file)


@pytest.mark.parametrize("keep", [1, 100, -40])
def test_a_cut_file_is_told_in_one_line(keep: int, int8: Path, tmp_path: Path):
    data = int8.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[:keep])
    with pytest.raises(
        ArtifactError, match=r"cut\.onnx is damaged or no ONNX file|cut\.onnx holds no edgedet metadata"
    ):
        read_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize("text", [b"", b"\x00" * 64, b"no onnx at all, only words", b"\xff" * 200, b"\x72\xff\xff\xff"])
def test_what_is_no_onnx_file_is_told_in_one_line(text: bytes, tmp_path: Path):
    (tmp_path / "x.onnx").write_bytes(text)
    with pytest.raises(ArtifactError, match=r"x\.onnx (is damaged or no ONNX file|holds no edgedet metadata)"):
        read_onnx(tmp_path / "x.onnx")


def test_a_model_of_others_is_told_in_one_line(int8: Path, tmp_path: Path):
    model = onnx.load(int8)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ArtifactError, match=r"other\.onnx holds no edgedet metadata: use a file that `edgedet export`"):
        read_onnx(tmp_path / "other.onnx")
    with pytest.raises(ArtifactError, match=r"^cannot read .*nowhere\.onnx: No such file"):
        read_onnx(tmp_path / "nowhere.onnx")


def with_meta(meta: ArtifactMeta) -> bytes:
    """Return the smallest ONNX file that holds metadata."""
    model = helper.make_model(helper.make_graph([], "empty", [], []))
    helper.set_model_props(model, {META_KEY: meta.to_json()})
    return model.SerializeToString()


META = ArtifactMeta(SPEC, ("cat", "dog"), "fp32", "0" * 64, versions={"edgedet": "0.2.0"})


def test_every_single_flipped_bit_of_an_export_is_refused(tmp_path: Path):
    path = tmp_path / "x.onnx"
    data = with_checksum(with_meta(META))
    path.write_bytes(data)
    assert read_onnx(path).meta == META
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"x\.onnx (is damaged|has lost its checksum)"):
            read_onnx(path)


def test_the_checksum_is_an_ordinary_metadata_entry(tmp_path: Path):
    """So the onnx package, onnxruntime and TensorRT's parser read the file as any other."""
    data = with_meta(META)
    model = onnx.load_from_string(with_checksum(data))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries == {META_KEY: META.to_json(), onnx_file.CHECKSUM_KEY: hashlib.sha256(data).hexdigest()}


def test_a_file_of_an_edgedet_before_checksums_is_read_and_named_once(tmp_path: Path, capsys):
    path = tmp_path / "old.onnx"
    path.write_bytes(with_meta(replace(META, versions={"edgedet": "0.1.0"})))
    assert read_onnx(path).meta.class_names == ("cat", "dog")
    read_onnx(path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"edgedet: {path} has no checksum")


def test_an_export_that_another_program_saved_again_is_refused(tmp_path: Path):
    """Nothing was verified of what that program wrote."""
    path = tmp_path / "again.onnx"
    path.write_bytes(with_meta(META))
    with pytest.raises(ArtifactError, match=r"again\.onnx has lost its checksum"):
        read_onnx(path)
