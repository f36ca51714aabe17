"""The head of an ONNX file, read without the onnx package."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from trt_models import SPEC, write_models

from edgedet.engines.tensorrt.onnx_head import read_onnx
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
    onnx.save(model, tmp_path / "two.onnx")
    assert read_onnx(tmp_path / "two.onnx").opset == 17


def test_the_onnx_package_is_not_imported():
    import edgedet.engines.tensorrt.onnx_head as module

    assert "onnx" not in vars(module)
    assert module.__name__ in sys.modules


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
