"""`edgedet train --int8` from a checkpoint to a file that its engine runs."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")
from training_sets import tiny_checkpoint, write_coco

from edgedet import cli
from edgedet.engines.base import open_engine
from edgedet.export.int8.files import TFLITE
from edgedet.training.int8 import train_int8


@pytest.fixture
def arguments(tmp_path):
    data, val = write_coco(tmp_path, "train", 4, 0), write_coco(tmp_path, "val", 2, 1)
    weights = tiny_checkpoint(tmp_path / "t.safetensors")
    common = ["--weights", weights, "--data", data, "--val", val, "--epochs", "0", "--batch", "4", "--threads", "1"]
    return ["train", *map(str, common), "--out", str(tmp_path / "out"), "--int8-epochs", "1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "files"), [("tflite", ["out_int8.tflite"]), ("tensorrt", ["out_int8.onnx", "out_int8_fp16.onnx"])]
)
def test_a_file_that_is_kept_by_force_says_what_it_lost(arguments, tmp_path, target, files):
    """Two pictures tell no verdict. The file runs, and holds the AP of float, calibrated and trained."""
    figures = str(tmp_path / "figures.json")
    assert cli.main([*arguments, "--int8", target, "--force", "--json", figures]) == 0
    result = json.loads((tmp_path / "figures.json").read_text())["int8"]
    assert [file["path"].rsplit("/", 1)[1] for file in result["files"]] == files
    for file in result["files"]:
        meta, engine = open_engine(file["path"], 1)
        engine.close()
        assert meta.precision == "int8"
        trained = meta.report["quantisation_aware_training"]
        assert (trained["float"], trained["trained"]) == (result["ap_float"], result["ap_qat"])
        assert meta.report["gate"]["verdict"] == "UNSURE"


@pytest.mark.slow
def test_a_file_without_a_verdict_is_not_kept(arguments, tmp_path, capsys):
    assert cli.main([*arguments, "--int8", "tflite"]) == 3
    assert "no INT8 file passed" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out/int8").iterdir()) == ["state.pt"]


@pytest.mark.slow
@pytest.mark.parametrize(("trained_ap", "network"), [(0.3, "calibrated"), (0.45, "trained")])
def test_the_network_with_the_higher_ap_is_written(arguments, tmp_path, monkeypatch, capsys, trained_ap, network):
    """The three figures are made up here; in the file of the calibrated network no weight has moved."""
    aps = [0.5, 0.4, trained_ap]
    monkeypatch.setattr(train_int8, "_measure", lambda *what: aps.pop(0))
    written = []
    write = TFLITE.write
    form = replace(TFLITE, write=lambda quantised, *rest: (written.append(quantised), write(quantised, *rest)))
    monkeypatch.setitem(train_int8.FORMS, "tflite", (form,))
    calibrated = []
    quantise = train_int8.quantise
    monkeypatch.setattr(
        train_int8, "quantise", lambda *rest, **more: calibrated.append(quantise(*rest, **more)) or calibrated[0]
    )
    assert cli.main([*arguments, "--int8", "tflite", "--force", "--json", str(tmp_path / "figures.json")]) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["int8"]["network"] == network
    assert all((quantised is calibrated[0]) == (network == "calibrated") for quantised in written)
    out, err = capsys.readouterr()
    assert f"it is the {network} network" in out
    assert ("the training for INT8 lost AP, 0.3000 instead of 0.4000" in err) == (network == "calibrated")
