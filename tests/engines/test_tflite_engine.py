"""TFLite files run behind the same interface as ONNX files, and a damaged one never reaches the interpreter."""

from __future__ import annotations

import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="writing a network needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("flatbuffers", reason="needs the tflite extra")

from models import (
    random_pixels,
)
from tflite_models import flat, meta_of, outputs_of, plan_for, random_graph

from edgedet.anchors import anchors_for
from edgedet.engines import tflite
from edgedet.engines.base import open_engine
from edgedet.engines.tflite_file import META_ENTRY, read_trailer, with_trailer
from edgedet.errors import ArtifactError, InputError, MissingDependency, ShapeError, UnsupportedError
from edgedet.export.tflite.writer import write_tflite
from edgedet.postprocess import postprocess
from edgedet.specs import SPECS
from edgedet.types import LevelScales, RawOutputs

SPEC = replace(SPECS["tf_efficientdet_d0"], num_classes=2, input_hw=(128, 128))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with float.tflite and int8.tflite of the same network."""
    folder = tmp_path_factory.mktemp("tflite")
    model = random_graph(SPEC)
    write_tflite(model, meta_of(SPEC), folder / "float.tflite")
    write_tflite(model, meta_of(SPEC), folder / "int8.tflite", plan_for(model, SPEC, random_pixels(SPEC)))
    return folder


@pytest.mark.parametrize("name", ["float", "int8"])
def test_outputs_come_in_the_order_of_the_anchors(files: Path, name: str) -> None:
    pixels = random_pixels(SPEC)
    meta, engine = open_engine(files / f"{name}.tflite", threads=1)
    raw = engine.infer(pixels)
    wanted = flat(outputs_of((files / f"{name}.tflite").read_bytes(), pixels), 2)
    np.testing.assert_array_equal(raw.class_logits, wanted[0])
    np.testing.assert_array_equal(raw.box_codes, wanted[1])
    assert raw.class_logits.dtype == (np.int8 if name == "int8" else np.float32)
    assert meta.precision == ("int8" if name == "int8" else "fp32")
    engine.close()


def test_each_level_of_int8_outputs_has_its_own_scale(files: Path) -> None:
    _, engine = open_engine(files / "int8.tflite", threads=1)
    raw = engine.infer(random_pixels(SPEC))
    assert [level.num_anchors for level in raw.levels] == [9 * n * n for n in (16, 8, 4, 2, 1)]
    assert len({level.codes for level in raw.levels}) == 5
    scale, zero_point = raw.levels[1].codes
    second = slice(9 * 256, 9 * (256 + 64))
    wanted = (raw.box_codes[second].astype(np.float32) - zero_point) * np.float32(scale)
    np.testing.assert_array_equal(raw.real().box_codes[second], wanted)


def test_pixels_are_read_at_each_call(files: Path) -> None:
    """The same buffer with other bytes, as the preprocessor reuses it."""
    _, engine = open_engine(files / "float.tflite", threads=1)
    pixels = random_pixels(SPEC)
    first = engine.infer(pixels).class_logits.copy()
    pixels[:] = 255 - pixels
    assert np.abs(engine.infer(pixels).class_logits - first).max() > 0
    pixels[:] = 255 - pixels
    np.testing.assert_array_equal(engine.infer(pixels).class_logits, first)
    with pytest.raises(ShapeError, match=r"wants \(1, 128, 128, 3\) uint8"):
        engine.infer(pixels[:, :64])


@pytest.mark.parametrize("score", [0.02, 0.3, 0.6])
def test_int8_outputs_give_the_detections_of_their_real_numbers(files: Path, score: float) -> None:
    """The threshold is taken to each level's integers, and only what passes becomes real."""
    _, engine = open_engine(files / "int8.tflite", threads=1)
    raw = engine.infer(random_pixels(SPEC))
    anchors = anchors_for(SPEC)
    found, wanted = (postprocess(outputs, anchors, 1.0, (128, 128), score=score) for outputs in (raw, raw.real()))
    assert len(wanted)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.boxes_xyxy, wanted.boxes_xyxy)
    np.testing.assert_array_equal(found.class_ids, wanted.class_ids)


def test_the_smallest_integer_is_no_detection_however_low_the_score() -> None:
    """Logits are cut at 0.01, so -128 says "0.01 or less": at --score 0.001 all of them would pass."""
    logits = np.full((9, 1), -128, np.int8)
    logits[4] = -127
    raw = RawOutputs(logits, np.zeros((9, 4), np.int8), (LevelScales(9, (0.05, -36), (0.1, 0)),))
    anchors = np.tile(np.float32([0, 0, 10, 10]), (9, 1))
    assert postprocess(raw, anchors, 1.0, (20, 20), score=0.001).scores.tolist() == pytest.approx(
        [1 / (1 + np.exp(91 * 0.05))], rel=1e-5
    )


def test_levels_must_cover_the_anchors() -> None:
    with pytest.raises(ShapeError, match="9 anchors need levels of as many"):
        RawOutputs(np.zeros((9, 1), np.int8), np.zeros((9, 4), np.int8), (LevelScales(8, (1.0, 0), (1.0, 0)),))


def test_unzip_shows_the_metadata(files: Path) -> None:
    with zipfile.ZipFile(files / "int8.tflite") as archive:
        assert archive.testzip() is None
        assert b'"precision": "int8"' in archive.read(META_ENTRY)


def damaged(data: bytes, kind: str) -> bytes:
    flatbuffer_end = data.rindex(b"PK\x03\x04", 0, data.rindex(b"PK\x03\x04"))  # the first of two entries
    if kind.startswith("cut"):
        share = {"to nothing": 0.0, "to 6 bytes": 6 / len(data), "in half": 0.5, "at the end": 1 - 1 / len(data)}
        share["behind the flatbuffer"] = flatbuffer_end / len(data)
        return data[: round(len(data) * share[kind[4:]])]
    place = {
        "root": 0,
        "identifier": 5,
        "weights": flatbuffer_end // 3,
        "tables": flatbuffer_end - 2000,
        "metadata": flatbuffer_end + 200,
        "checksum": data.rindex(b"PK\x03\x04") + 60,
        "directory": data.rindex(b"PK\x01\x02") + 1,
        "end": len(data) - 10,
    }[kind]
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


KINDS = [
    "cut to nothing",
    "cut to 6 bytes",
    "cut in half",
    "cut behind the flatbuffer",
    "cut at the end",
    "root",
    "identifier",
    "weights",
    "tables",
    "metadata",
    "checksum",
    "directory",
    "end",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_in_one_line(files: Path, tmp_path: Path, kind: str) -> None:
    """In a process of its own: an interpreter that saw such a file could end the process."""
    path = tmp_path / "bad.tflite"
    path.write_bytes(damaged((files / "int8.tflite").read_bytes(), kind))
    command = [sys.executable, "-m", "edgedet", "run", str(path), "--source", "edgedet/demo/street.mp4", "--limit", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert str(path) in line
    assert "Export it again" in line or "export it again" in line or "`edgedet export` wrote" in line


def test_any_flipped_bit_is_seen(files: Path) -> None:
    data = (files / "int8.tflite").read_bytes()
    flatbuffer_end = len(read_trailer(files / "int8.tflite")[1])
    places = np.random.default_rng(0).integers(0, flatbuffer_end, 40)
    path = files / "flipped.tflite"
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(changed))
        with pytest.raises(ArtifactError, match="is damaged"):
            read_trailer(path)


def test_a_file_of_another_program_is_refused(tmp_path: Path, files: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(read_trailer(files / "float.tflite")[1])
    with pytest.raises(ArtifactError, match="holds no edgedet metadata"):
        open_engine(path, threads=1)


def test_metadata_and_network_must_agree(tmp_path: Path, files: Path) -> None:
    meta, flatbuffer = read_trailer(files / "float.tflite")
    three = replace(meta, spec=replace(SPEC, num_classes=3), class_names=("a", "b", "c"))
    path = tmp_path / "three.tflite"
    path.write_bytes(with_trailer(flatbuffer, three))
    with pytest.raises(ArtifactError, match=r"three.tflite: inputs and outputs are .* its metadata says"):
        open_engine(path, threads=1)


def test_a_flatbuffer_that_the_interpreter_refuses_gives_its_reason(tmp_path: Path, files: Path) -> None:
    """Whole by its checksum, but not runnable: as with an operator that an older runtime lacks."""
    meta, _ = read_trailer(files / "float.tflite")
    path = tmp_path / "odd.tflite"
    path.write_bytes(with_trailer(b"\x10\x00\x00\x00TFL3" + bytes(64), meta))
    with pytest.raises(ArtifactError, match=r"ai_edge_litert cannot run .*odd.tflite: ") as raised:
        open_engine(path, threads=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("library", ["libnowhere.so.1", "libc.so.6"], ids=["missing", "no delegate"])
def test_an_unusable_delegate_is_named(files: Path, library: str) -> None:
    with pytest.raises(UnsupportedError, match=f"delegate {library} cannot be used"):
        open_engine(files / "float.tflite", threads=1, delegate=library)


@pytest.mark.parametrize("threads", [0, -1, 1025, 100_000])
def test_a_number_of_threads_that_would_end_the_process_is_refused(files: Path, threads: int) -> None:
    with pytest.raises(InputError, match=f"1 to 1024 threads; got {threads}"):
        open_engine(files / "int8.tflite", threads=threads)


def test_only_tflite_files_take_a_delegate(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(UnsupportedError, match="only TFLite files run on a delegate"):
        open_engine(tmp_path / "x.onnx", threads=1, delegate="libedgetpu.so.1")


def test_without_an_interpreter_the_pip_command_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match="pip install ai-edge-litert"):
        open_engine(files / "float.tflite", threads=1)


def test_tflite_runtime_beside_numpy_2_is_refused_in_a_clear_line(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite_runtime 2.14, the last, was built for numpy 1; Interpreter() would raise a SystemError."""
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setattr(tflite.np, "__version__", "2.1.0")
    with pytest.raises(MissingDependency, match="tflite_runtime needs numpy < 2, but numpy is 2.1.0"):
        open_engine(files / "float.tflite", threads=1)
