"""`edgedet bench --phi` and `--profile`: operators as they ran, rooflines by hand, and both on real files of D0."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="exporting needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("cv2", reason="edgedet bench resizes by OpenCV")

from bench_schema import documented, entries_of
from models import random_pixels
from tflite_models import graph_of, meta_of, plan_for

from edgedet import cli
from edgedet.benchmarks.models import family_files
from edgedet.benchmarks.models.random_weights import randomise
from edgedet.benchmarks.models.ungated_int8 import write_ungated
from edgedet.benchmarks.profile.file_macs import count_macs
from edgedet.benchmarks.profile.layer_costs import LayerCost
from edgedet.benchmarks.profile.peaks import Peaks
from edgedet.benchmarks.profile.profile import WARMUP, OperatorRun, profile_model, runs_from_events, sum_costs
from edgedet.benchmarks.profile.tflite_nodes import Operator, find_partitions, fuse_swishes, match_times
from edgedet.benchmarks.profile.tflite_profile import parse_rows
from edgedet.engines.base import open_engine
from edgedet.engines.table import Package, engine_named
from edgedet.errors import UnsupportedError
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.export.tflite.writer import write_tflite
from edgedet.specs import SPECS

PEAKS = Peaks(gmacs_per_s=10.0, gb_per_s=5.0, product="float32")  # 0.1 ms for 1 million MACs, 0.2 ms for 1 MB


def event(name: str, number: int, ms: float, **args: object) -> dict[str, object]:
    """Return one entry of onnxruntime's profile, with the sizes that it notes as text."""
    sizes = {"activation_size": "1000000", "parameter_size": "0", "output_size": "1000000"}
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": ms * 1e3,
        "args": {"node_index": str(number), **sizes, **args},
    }


def layer(name: str, op_class: str, part: str, macs: int = 0) -> LayerCost:
    return LayerCost(name, op_class, part, macs, 0, 0, 0, ())


def test_the_roofline_is_the_larger_of_arithmetic_and_memory() -> None:
    assert PEAKS.roofline_ms(macs=1_000_000, moved=0) == pytest.approx(0.1)
    assert PEAKS.roofline_ms(macs=1_000_000, moved=1_000_000) == pytest.approx(0.2)


def test_times_costs_and_rooflines_add_up_by_class_and_by_part() -> None:
    ran = [
        OperatorRun("pointwise", "stem", 1.0, 4_000_000, 1_000_000),  # roofline 0.4 ms
        OperatorRun("pointwise", "blocks", 1.0, 1_000_000, 3_000_000),  # 0.6 ms
        OperatorRun("swish", "blocks", 2.0, 0, 5_000_000),  # 1 ms
    ]
    by_class = sum_costs(ran, PEAKS, lambda operator: operator.op_class)
    assert [(cost.name, cost.operators, cost.ms) for cost in by_class] == [("pointwise", 2, 2.0), ("swish", 1, 2.0)]
    pointwise, swish = by_class
    assert (pointwise.share, pointwise.gmacs, pointwise.mb) == (0.5, 0.005, 4.0)
    assert (pointwise.roofline_ms, pointwise.of_roofline) == (pytest.approx(1.0), pytest.approx(0.5))
    assert swish.of_roofline == pytest.approx(0.5)
    by_part = sum_costs(ran, PEAKS, lambda operator: operator.part)
    assert [(cost.name, cost.ms) for cost in by_part] == [("blocks", 3.0), ("stem", 1.0)]


def test_what_the_engine_does_not_tell_is_not_known() -> None:
    ran = [OperatorRun("pool", "", 1.0, None, None)]
    (cost,) = sum_costs(ran, PEAKS, lambda operator: operator.op_class)
    assert (cost.gmacs, cost.mb, cost.roofline_ms, cost.of_roofline) == (None, None, None, None)
    assert sum_costs(ran, PEAKS, lambda operator: operator.part) == []


def test_onnxruntimes_operators_are_told_apart_by_number_and_fused_ones_count_once() -> None:
    """A swish that was fused of two nodes moves its input and its output: 2 MB. Two reorders have the same name, and a
    convolution that was fused with its gate has the gate's."""
    layers = [
        layer("a", "pointwise", "stem", macs=7),
        layer("a.sigmoid", "swish", "stem"),
        layer("a.swish", "swish", "stem"),
        layer("b", "se", "blocks", macs=9),
        layer("b.gate", "se", "blocks"),
    ]
    costs = {item.name: item for item in layers}
    events = []
    for run in range(WARMUP + 3):
        slow = 100.0 if run < WARMUP else 0.0  # what warming up takes counts nowhere
        events += [
            event("ReorderInput", 0, slow + 1, op_name="ReorderInput"),
            event("a_nchwc", 1, slow + 5 + run % 3, op_name="Conv"),
            event("a.swish/QuickGeluFusion/", 2, slow + 3, op_name="QuickGelu"),
            event("ReorderInput", 3, slow + 2, op_name="ReorderInput"),
            event("b.gate_nchwc", 4, slow + 1, op_name="Conv"),
        ]
    own = "layout (onnxruntime's own)"
    assert runs_from_events(events, costs) == [
        OperatorRun(own, own, 1.0, 0, 2_000_000),
        OperatorRun("pointwise", "stem", 6.0, 7, 2_000_000),
        OperatorRun("swish", "stem", 3.0, 0, 2_000_000),
        OperatorRun(own, own, 2.0, 0, 2_000_000),
        OperatorRun("se", "blocks", 1.0, 9, 2_000_000),
    ]


def operator(kind: str, inputs: tuple[int, ...], output: int, moved: int = 10) -> Operator:
    return Operator(kind, f"t{output}", 0, inputs, (output,), moved, kind)


# conv -> swish -> resize, which XNNPACK does not take; and a second conv on the swish's output -> added to the resized
GRAPH = [
    operator("CONV_2D", (0,), 1, moved=30),
    operator("LOGISTIC", (1,), 2),
    operator("MUL", (1, 2), 3, moved=15),
    operator("RESIZE_NEAREST_NEIGHBOR", (3,), 4),
    operator("CONV_2D", (3,), 5, moved=20),
    operator("ADD", (4, 5), 6),
]


def test_partitions_are_tflites() -> None:
    """The second conv needs no resize, so it is in the first partition, although it stands behind it."""
    assert find_partitions(GRAPH, {3}) == [[0, 1, 2, 4], [5]]


def test_a_swish_is_one_operator_that_reads_and_writes_once() -> None:
    merged = fuse_swishes(GRAPH[:3])
    assert [(item.kind, item.name, item.moved) for item in merged] == [
        ("CONV_2D", "t1", 30),
        ("LOGISTIC and MUL", "t3", 10),
    ]


def test_litert_rows_are_matched_with_the_files_operators() -> None:
    rows = {
        ("Delegate/Fully Connected (NC, QS8, QC8W) GEMM", 0): (3.0, 1),
        ("Delegate/Invalid Unary Op", 1): (2.0, 1),
        ("Delegate/Convolution (NHWC, QC8) IGEMM", 2): (4.0, 1),
        ("RESIZE_NEAREST_NEIGHBOR", 3): (1.0, 1),
        ("Delegate/Add (ND)", 0): (0.5, 1),
    }
    found = match_times(GRAPH, rows, lambda item: item.moved)
    assert found is not None
    assert {item.name: ms for item, ms in found} == {"t1": 3.0, "t3": 2.0, "t5": 4.0, "t4": 1.0, "t6": 0.5}
    rows["Delegate/Invalid Unary Op", 1] = (2.0, 2)  # one more than the file holds
    assert match_times(GRAPH, rows, lambda item: item.moved) is None


def test_operators_that_litert_reports_as_one_share_its_time_by_what_they_cost() -> None:
    """Two convolutions stand first in a partition each; 5 ms are divided 30 to 20."""
    graph = [GRAPH[0], operator("RESIZE_NEAREST_NEIGHBOR", (1,), 3), operator("CONV_2D", (3,), 4, moved=20)]
    rows = {("Delegate/Fully Connected (NC, F32) GEMM", 0): (5.0, 2), ("RESIZE_NEAREST_NEIGHBOR", 1): (1.0, 1)}
    found = match_times(graph, rows, lambda item: item.moved)
    assert found is not None
    assert {item.name: ms for item, ms in found} == {"t1": 3.0, "t4": 2.0, "t3": 1.0}


def test_the_activation_of_a_sum_is_an_operator_of_its_own() -> None:
    graph = [replace(GRAPH[5], inputs=(), activation=10), operator("CONV_2D", (6,), 7)]
    rows = {
        ("Delegate/Add (ND)", 0): (1.0, 1),
        ("Delegate/Clamp (NC)", 1): (2.0, 1),
        ("Delegate/Fully Connected (NC, F32) GEMM", 2): (3.0, 1),
    }
    found = match_times(graph, rows, lambda item: item.moved)
    assert found is not None
    assert [(item.kind, item.op_class, ms) for item, ms in found] == [
        ("ADD", "ADD", 1.0),
        ("RELU6", "relu6", 2.0),
        ("CONV_2D", "CONV_2D", 3.0),
    ]


def test_rows_are_read_from_litert_text() -> None:
    text = b"""===== Run Order =====
      [node type]    [start]    [first]   [avg ms]        [%]     [cdf%]   [mem KB] [times called]   [Name]
      Delegate/Static Reshape (NC)      0.000      0.119    0.116     0.124%     0.124%    0.000     2   [Delegate]:0
      RESIZE_NEAREST_NEIGHBOR      0.044      0.006      0.005     0.003%    88.016%      0.000     2   [Builtin]:249

===== Top by Computation Time =====
      RESIZE_NEAREST_NEIGHBOR      0.044      0.006      0.005     0.003%    88.016%      0.000     2   [Builtin]:249
"""
    assert parse_rows(text) == {
        ("Delegate/Static Reshape (NC)", 0): (pytest.approx(0.232), 2),
        ("RESIZE_NEAREST_NEIGHBOR", 249): (pytest.approx(0.01), 2),
    }
    with pytest.raises(UnsupportedError, match="a form that edgedet does not know"):
        parse_rows(b"another version's words")


PARTS = {"stem", "blocks", "BiFPN", "class head", "box head"}


def check_profile(profile: dict, macs: int) -> None:
    """All the file's MACs and all the time are in both tables."""
    for key in ("by_class", "by_part"):
        assert sum(item["gmacs"] for item in profile[key]) == pytest.approx(macs / 1e9)
        assert sum(item["share"] for item in profile[key]) == pytest.approx(1.0)
        assert all(item["ms"] == 0 or item["of_roofline"] > 0 for item in profile[key])
    assert {item["name"] for item in profile["by_part"]} >= PARTS


@pytest.mark.parametrize(("name", "precision"), [("tf_efficientdet_d0", "int8"), ("tf_efficientdet_lite0", "fp32")])
def test_a_tflite_file_has_costs_and_parts(tmp_path: Path, name: str, precision: str) -> None:
    """Lite's sums have an activation, which XNNPACK runs as one more operator."""
    spec = replace(SPECS[name], num_classes=2, input_hw=(128, 128))
    network = EfficientDet(spec).eval()
    randomise(network, spec.input_hw, seed=0)
    model, path = graph_of(network), tmp_path / "small.tflite"
    plan = plan_for(model, spec, random_pixels(spec)) if precision == "int8" else None
    write_tflite(model, meta_of(spec), path, plan)
    profile = profile_model(path, threads=2, runs=2)
    macs = count_macs(path)
    assert macs is not None
    check_profile(asdict(profile), macs)
    assert set(entries_of({"models": [{"profile": asdict(profile)}]})) == {
        name for name in documented() if ".profile." in name
    }
    assert profile.product == {"fp32": "float32", "int8": "int8"}[precision]


def test_an_int8_file_for_tensorrt_needs_no_calibration_where_only_its_cost_counts(tmp_path: Path) -> None:
    """Random weights have no frames of a scene: ranges and magnitudes are those of one picture."""
    spec = replace(SPECS["tf_efficientdet_lite0"], num_classes=2, input_hw=(128, 128))
    network = EfficientDet(spec).eval()
    randomise(network, spec.input_hw, seed=0)
    path = tmp_path / "sparse.onnx"
    write_ungated(graph_of(network), meta_of(spec), path, seed=0)
    meta, engine = open_engine(path, 1)
    engine.close()
    assert meta.precision == "int8"
    check_profile(asdict(profile_model(path, threads=1, runs=1)), count_macs(path) or 0)


@pytest.mark.slow  # 14 s: a whole D0
def test_the_family_is_exported_once_measured_and_profiled(tmp_path: Path, monkeypatch, capsys) -> None:
    """D0 for two engines, of which one's package is called what no package is: it is named, the rest is reported, and
    the second time nothing is exported."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trt = replace(engine_named("trt"), packages=(Package("no_such_package", "pip install it"),))
    monkeypatch.setattr(family_files, "engine_named", lambda name: trt if name == "trt" else engine_named(name))
    common = ["--runs", "1", "--seconds", "0", "--warmup", "0", "--threads", "1", "--json", str(tmp_path / "d0.json")]
    words = ["bench", "--phi", "0", "--engine", "ort,trt", *common]
    assert cli.main([*words, "--profile", "--html", str(tmp_path / "d0.html")]) == 1
    output = capsys.readouterr()
    assert output.err.count("edgedet: exporting D0") == 1
    assert (
        "1 model could be measured, with 1 failure: --engine trt needs no_such_package, which is not installed"
        in output.err
    )
    assert "of roofline" in output.out
    (row,) = json.loads((tmp_path / "d0.json").read_text())["models"]
    assert (row["phi"], row["precision"], row["weights"]) == (0, "fp32", "random, seed 0")
    check_profile(row["profile"], row["macs"])
    assert "Profile of D0 fp32 onnx" in (tmp_path / "d0.html").read_text()
    assert cli.main(words) == 1
    assert "exporting" not in capsys.readouterr().err
