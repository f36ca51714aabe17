"""Sensitivity of layers: one layer in INT8 is what a whole run says it is; the command's table, picture and errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")


from tflite_models import plan_for, random_graph

from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.graph.macs import count_conv_macs
from edgedet.calibration.placement.plan import QuantisedConv, check_keep_float, make_sparse_plan
from edgedet.calibration.ranges.choose import fake_quantise, table_from_observed
from edgedet.calibration.ranges.observe import observe
from edgedet.calibration.recovery.sensitivity import (
    NOISELESS_DB,
    LayerQuantiser,
    measure_layer_losses,
    verify_on_detections,
)
from edgedet.cli import main
from edgedet.errors import InputError
from edgedet.postprocess import ORIGINALS
from edgedet.specs import resized, spec_for
from edgedet.types import ModelInput

SPEC = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=3)
META = ArtifactMeta(SPEC, ("a", "b", "c"), "fp32", "")
LAYER = "backbone.blocks.2.0.conv_dw"


@pytest.fixture(scope="module")
def parts():
    model = random_graph(SPEC)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    return model, plan_for(model, SPEC, pixels), ModelInput(pixels, 1.0, (128, 128))


def test_one_layer_in_int8_is_what_a_whole_run_says(parts) -> None:
    model, plan, frame = parts
    layers = LayerQuantiser(model, META, plan)
    wanted = Executor(model).run(
        frame.pixels,
        lambda node, value: (
            fake_quantise(value, plan.tensors[node.output[0]]) if node.output[0] in layers.tensors[LAYER] else value
        ),
        {LAYER: plan.convs[LAYER]},
    )
    got = layers.run_with_layer(LAYER, layers.float_values(frame.pixels))
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_allclose(b.numpy(), a, rtol=0, atol=1e-5 * np.abs(a).max())
    assert layers.tensors[LAYER] == {LAYER, f"{LAYER}.sigmoid", f"{LAYER}.swish", "backbone.blocks.2.0.se.mean"}


def test_detections_follow_the_post_processing_of_the_file(parts) -> None:
    """Of one anchor whose three classes all score 0.88, zylo117 keeps one."""
    model, plan, frame = parts
    anchors = len(anchors_for(SPEC))
    logits, codes = torch.full((1, anchors, 3), -9.0), torch.zeros((1, anchors, 4))
    logits[0, 60] = 2.0
    for nms, boxes in ((META.nms, 3), (ORIGINALS["zylo117"], 1)):
        assert len(LayerQuantiser(model, replace(META, nms=nms), plan).detect((logits, codes), frame, 0.4)) == boxes


def test_each_rounded_tensor_belongs_to_one_layer(parts) -> None:
    model, plan, _ = parts
    owned = [name for tensors in LayerQuantiser(model, META, plan).tensors.values() for name in tensors]
    assert len(owned) == len(set(owned))


def test_a_ruined_layer_comes_first_and_loses_its_detections(parts) -> None:
    """Weights of zero: the signal behind them is gone."""
    model, plan, frame = parts
    layer = "class_net.predict.conv_pw.0"
    q = plan.convs[layer]
    ruined = replace(plan, convs={**plan.convs, layer: QuantisedConv(np.zeros_like(q.weight), q.scales, q.bias)})
    layers = LayerQuantiser(model, META, ruined)
    shares = {name: 1.0 for name in count_conv_macs(model)}
    losses = measure_layer_losses(layers, [frame], shares)
    assert losses[0].layer == layer
    assert losses[0].sqnr_db < losses[1].sqnr_db <= losses[-1].sqnr_db <= NOISELESS_DB
    worst, best = verify_on_detections(layers, [frame], [losses[0], losses[-1]], score=0.5)
    assert worst.f1 is not None
    assert best.f1 is not None
    assert worst.f1 < 0.7
    assert best.f1 > 0.9


def test_a_layer_named_by_sensitivity_can_be_kept_float(parts) -> None:
    """The sparse form leaves it alone, and its neighbours INT8."""
    model, _, frame = parts
    executor = Executor(model)
    table = table_from_observed(executor, *observe(executor, [frame.pixels]), "", "minmax")
    check_keep_float(model, ("se", LAYER))
    whole, kept = make_sparse_plan(model, table, ("se",)), make_sparse_plan(model, table, ("se", LAYER))
    assert set(whole.convs) - set(kept.convs) == {LAYER}
    with pytest.raises(InputError, match="got 'backbone.nothing'"):
        check_keep_float(model, ("backbone.nothing",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.onnx"], "nowhere.onnx cannot be read as ONNX"),
        (["nowhere.onnx", "--worst", "0"], "--worst takes a number from 1 on; got 0"),
        (["nowhere.onnx", "--score", "2"], "between 0 and 1"),
    ],
)
def test_wrong_options_give_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_the_demo_s_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten layers are verified; the picture is drawn; every layer is in the JSON, the worst first."""
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    small = ["--size", "288x384", "--threads", "1"]
    assert main(["export", "--phi", "0", "--weights", "demo", *small, "--out", str(tmp_path)]) == 0
    model, picture = tmp_path / "efficientdet_d0_street.onnx", tmp_path / "layers.png"
    capsys.readouterr()
    arguments = ["--frames", "20", "--passes", "1", "--threads", "1", "--picture", str(picture), "--json"]
    assert main(["sensitivity", str(model), *arguments]) == 0
    losses = json.loads(capsys.readouterr().out)["layers"]
    assert sum(loss["f1"] is not None for loss in losses) == 10
    assert [loss["sqnr_db"] for loss in losses] == sorted(loss["sqnr_db"] for loss in losses)
    assert picture.read_bytes()[:4] == b"\x89PNG"
