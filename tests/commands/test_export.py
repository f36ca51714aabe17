"""`edgedet export`: what it writes, that it refuses a file that differs from the checkpoint, and its errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from edgedet import demo
from edgedet.cli import main
from edgedet.engines.base import open_engine
from edgedet.export.fusion import fuse

DEMO = ["export", "--phi", "0", "--weights", "demo", "--threads", "1"]


def test_the_demo_is_exported_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--out", str(tmp_path), "--size", "128x160", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["model"] == "tf_efficientdet_d0"
    assert figures["max_relative_difference"] < 1e-4
    meta, engine = open_engine(tmp_path / f"{demo.MODEL_NAME}.onnx", threads=1)
    assert (meta.spec.input_hw, meta.class_names, meta.precision) == ((128, 160), ("person",), "fp32")
    assert meta.report["verify"]["frames"] == 3
    raw = engine.infer(np.zeros((1, 128, 160, 3), np.uint8))
    assert raw.class_logits.shape == (3840, 1)  # the best of 3852 anchors


def test_a_file_that_differs_from_the_network_is_refused_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of the fused graph off by 1 % is enough."""
    honest = fuse.fold_norm

    def dishonest(conv: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d | None = None) -> fuse.Weights:
        weights = honest(conv, norm)
        return replace(weights, weight=weights.weight * 1.01) if conv.groups == 1 else weights

    monkeypatch.setattr(fuse, "fold_norm", dishonest)
    assert main([*DEMO, "--out", str(tmp_path), "--size", "128x160"]) == 3
    assert "does not do what the checkpoint does" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export"], "needs --weights FILE"),
        ([*DEMO, "--size", "100x200"], "at least 128 pixels a side; got 100x200"),
        ([*DEMO, "--size", "big"], "--size takes HxW"),
        (["export", "--phi", "9", "--weights", "demo"], "--phi takes 0 to 8; got 9"),
        (["export", "--phi", "1", "--weights", "demo"], "holds tf_efficientdet_d0, not tf_efficientdet_d1"),
        ([*DEMO[:-1], "0"], "--threads wants a number from 1 up; got 0"),
        ([*DEMO, "--data", "labels.json"], "--data goes with --int8: add it, or leave the option out."),
        ([*DEMO, "--calib", "scene.mp4"], "--calib goes with --int8"),
        ([*DEMO, "--frames", "7"], "--frames goes with --int8"),
        ([*DEMO, "--int8", "--images", "photos"], "--images goes with --data: add it, or leave the option out."),
        (["export", "--phi", "1", "--variant", "tf_efficientdet_d0"], "--phi 1 is efficientdet_d1, but --variant says"),
        (
            ["export", "--phi", "0", "--weights", "nowhere.pth"],
            "there is no checkpoint nowhere.pth: name a file",
        ),
        ([*DEMO, "--out", "/proc/edgedet"], "cannot write /proc/edgedet"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_full_disk_gives_one_line_and_no_file(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--out", str(small_disk), "--size", "128x128"]) == 4
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert not [path for path in small_disk.rglob("*") if path.suffix == ".onnx"]


def test_one_class_is_not_called_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--out", str(tmp_path), "--size", "128x128"]) == 0
    assert ", 1 class, " in capsys.readouterr().out
