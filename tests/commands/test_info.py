"""``edgedet info``: what it says of each kind of file, what it needs for that, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from edgedet import demo
from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.cli import main
from edgedet.errors import InputError
from edgedet.files import sha256_of
from edgedet.info.info import info_of
from edgedet.info.parity import COMPARED, NOT_COMPARED, NUMBERS, find_parity
from edgedet.specs import PHI, SPECS

ROOT = Path(__file__).resolve().parents[2]
GATE = {"verdict": "PASSED", "reason": "", "value": 0.98765, "low": None, "per_size": [{"px": 32}, {"px": 96}]}
META = ArtifactMeta(
    replace(SPECS["tf_efficientdet_d1"], num_classes=2, input_hw=(384, 640), family="zylo117"),
    ("person", "car"),
    "int8",
    "ab" * 32,
    versions={"edgedet": "9.8"},
    report={"gate": GATE, "ious": [0.5, 0.75]},
)


def said(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["info", *arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def tflite(tmp_path: Path) -> Path:
    """A file of our own: what an interpreter would run is not looked at."""
    from edgedet.engines.tflite_file import with_trailer

    path = tmp_path / "model.tflite"
    path.write_bytes(with_trailer(b"\x1c\x00\x00\x00TFL3" + bytes(40), META))
    return path


def safetensors(path: Path, header: dict, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_model_file_is_described_with_every_figure_of_its_report(tflite: Path):
    code, out, err = said(str(tflite))
    assert (code, err) == (0, "")
    rows = [line.split(None, 1) for line in out.splitlines()]
    assert ["family", "zylo117 (compared with its own code: numbers)"] in rows
    assert ["variant", "tf_efficientdet_d1"] in rows
    assert ["size", "384x640"] in rows
    assert ["precision", "int8"] in rows
    assert ["classes", "2: person, car"] in rows
    assert ["sha256", sha256_of(tflite)] in rows
    assert ["made", f"from   sha256 {'ab' * 32}"] in rows
    assert [line.split() for line in out.split("gate\n")[1].splitlines()] == [
        ["low", "-"],
        ["per_size"],
        ["0"],
        ["px", "32"],
        ["1"],
        ["px", "96"],
        ["reason"],
        ["value", "0.9877"],
        ["verdict", "PASSED"],
        ["ious", "0.5,", "0.75"],
    ]


def test_json_holds_the_same(tflite: Path, tmp_path: Path):
    code, out, err = said(str(tflite), "--json")
    assert code == 0
    assert "tf_efficientdet_d1" in err
    figures = json.loads(out)
    assert figures["report"]["gate"] == GATE
    assert figures["input_hw"] == [384, 640]
    assert figures["class_names"] == ["person", "car"]
    assert figures["bytes"] == tflite.stat().st_size
    assert said(str(tflite), "--json", str(tmp_path / "info.json"))[0] == 0
    assert json.loads((tmp_path / "info.json").read_text()) == figures


def test_our_own_weights_need_the_standard_library_only(tmp_path: Path):
    """In a process where torch and safetensors cannot be imported; 3.88 M parameters are D0's with one class."""
    code = "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None; from edgedet.cli import main; main()"
    command = [sys.executable, "-c", code, "info", str(demo.WEIGHTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "parameters  3.88 M\n" in done.stdout
    assert "precision   fp16\n" in done.stdout
    assert "classes     1: person\n" in done.stdout


def test_an_onnx_file_of_an_export(tmp_path: Path):
    pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.export.checkpoints.checkpoint import load_checkpoint
    from edgedet.export.export_onnx import export_onnx
    from edgedet.specs import resized

    weights = load_checkpoint(demo.WEIGHTS)
    path = tmp_path / "a.onnx"
    written = export_onnx(
        replace(weights, spec=resized(weights.spec, (128, 256))), path, 1, top_anchors=100, max_batch=2
    )
    info = info_of(path)
    assert (info.top_anchors, info.max_batch, written.top_anchors, written.max_batch) == (100, 2, 100, 2)
    assert (info.sha256, info.bytes, info.input_hw) == (written.sha256, written.bytes, (128, 256))
    assert info.compared == NUMBERS
    assert info.report["verify"]["frames"] == written.frames
    assert info.source_sha256 == weights.sha256


def test_a_checkpoint_of_another_code_base(tmp_path: Path):
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.export.checkpoints.checkpoint import load_checkpoint
    from edgedet.export.network.efficientdet import EfficientDet

    spec = replace(SPECS["tf_efficientdet_d0"], num_classes=2)
    path = tmp_path / "tf_efficientdet_d0_mine.pth"
    torch.save({"state_dict_ema": EfficientDet(spec).state_dict()}, path)
    info = info_of(path, load_checkpoint=load_checkpoint)
    assert (info.family, info.variant, info.classes) == ("effdet", "tf_efficientdet_d0", 2)
    assert info.sha256 == info.source_sha256 == sha256_of(path)
    assert info.notes[0] == "read state_dict_ema (averaged weights)"
    assert info.notes[1].startswith(
        "the file does not say how it was trained, so this is assumed: anchor ratios (w:h) 1:1 1.4:0.7 0.7:1.4, "
    )
    assert info_of(path, "tf_efficientdet_d0_ap", load_checkpoint).variant == "tf_efficientdet_d0_ap"


def test_safetensors_of_another_code_base_go_the_checkpoints_way(tmp_path: Path):
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from safetensors.torch import save_file

    from edgedet.export.checkpoints.checkpoint import load_checkpoint
    from edgedet.export.network.efficientdet import EfficientDet

    state = EfficientDet(replace(SPECS["tf_efficientdet_lite0"], num_classes=1)).state_dict()
    save_file({key: value for key, value in state.items() if value.dtype == torch.float32}, tmp_path / "a.safetensors")
    # D0 and Lite0 differ in squeeze-excite, so that tensors alone tell
    assert info_of(tmp_path / "a.safetensors", load_checkpoint=load_checkpoint).variant == "tf_efficientdet_lite0"


OWN = {META_KEY: json.dumps({"spec": SPECS["tf_efficientdet_d0"].to_dict(), "class_names": ["a"], "sha256": ""})}


@pytest.mark.parametrize(
    ("header", "data", "complaint"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234", r"has \d+ bytes, its header says \d+"),
        ({"a": 3}, b"", "is damaged or no safetensors file"),
        ({"__metadata__": {META_KEY: "{"}}, b"", "has damaged metadata"),
        ({"__metadata__": {META_KEY: '{"spec": {"name": "x"}, "class_names": []}'}}, b"", "has damaged metadata"),
        ({"__metadata__": OWN}, b"", "has 90 classes, but 1 names"),
        ({"__metadata__": {META_KEY: " " * (5 << 20)}}, b"", "5242880 bytes of metadata"),
    ],
)
def test_damaged_safetensors_are_refused(header: dict, data: bytes, complaint: str, tmp_path: Path):
    with pytest.raises(InputError, match=complaint) as raised:
        info_of(safetensors(tmp_path / "x.safetensors", header, data))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, struct.pack("<Q", 30) + b"{"], ids=["empty", "huge", "cut"])
def test_a_header_longer_than_the_file_is_not_read(data: bytes, tmp_path: Path):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="cut off or no safetensors file"):
        info_of(tmp_path / "x.safetensors")


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.onnx").write_bytes(b"x")
    (tmp_path / "a.tflite").write_bytes(b"x")
    for name in ("missing.onnx", "a.jpg", "a.onnx", "a.tflite"):
        code, out, err = said(str(tmp_path / name))
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert name in err


def test_compared_are_the_models_whose_runs_the_tests_hold():
    """effdet itself is run by tests/export/network/test_network.py; the other code bases' outputs are kept."""
    kept = json.loads((ROOT / "tests/golden/layout_outputs.json").read_text(encoding="utf-8"))
    assert {PHI[int(variant)] for variant in kept["zylo117"]} == COMPARED["zylo117"]
    assert {"tf_" + variant.replace("-", "_") for variant in kept["automl"]} == COMPARED["automl"]


def test_the_documents_table_says_the_same():
    text = (ROOT / "docs/checkpoints.md").read_text(encoding="utf-8")
    zylo117, automl = (
        re.search(rf"^\| {family}.*\| numbers: ([^|]+?) \|$", text, re.MULTILINE)[1].split(", ")
        for family in ("zylo117", "google/automl")
    )
    assert {PHI[int(phi)] for phi in zylo117} == COMPARED["zylo117"]
    assert {f"tf_efficientdet_{size.lower()}" for size in automl} == COMPARED["automl"]


def test_parity_is_told_for_each_model():
    d0 = SPECS["tf_efficientdet_d0"]
    assert find_parity(d0) == NUMBERS
    assert find_parity(SPECS["tf_efficientdet_d0_ap"]) == NUMBERS
    assert find_parity(replace(SPECS["tf_efficientdet_lite1"], family="zylo117")) == NOT_COMPARED  # it has none
    assert find_parity(replace(SPECS["tf_efficientdet_d4_ap"], family="automl")) == NUMBERS
    assert find_parity(replace(d0, name="detect")) == NOT_COMPARED
