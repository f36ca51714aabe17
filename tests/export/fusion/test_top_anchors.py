"""A graph that keeps the best anchors only leads to the same boxes as one that keeps all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import random_network

from edgedet import Detector
from edgedet.artifact import ALL_OUTPUTS, TOP_OUTPUTS, ArtifactMeta
from edgedet.engines.base import open_engine
from edgedet.errors import InputError, VerificationError
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.fusion.top_anchors import keep_all_anchors, keep_top_anchors
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.export.onnx_file import read_graph, write_onnx
from edgedet.export.verify import verify
from edgedet.postprocess import ORIGINALS, SOFT_RULES, NmsRules
from edgedet.specs import SPECS, resized
from edgedet.types import Detections

CLASSES, TOP = 5, 400  # of 3069 anchors
SPEC = replace(resized(SPECS["tf_efficientdet_d0"], (128, 128)), num_classes=CLASSES)
PICTURES = [np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8) for seed in range(3)]
RULES = [NmsRules(), SOFT_RULES, NmsRules("anchors"), ORIGINALS["automl"], ORIGINALS["zylo117"]]


@pytest.fixture(scope="module")
def network() -> EfficientDet:
    return random_network(SPEC)


@pytest.fixture(scope="module")
def files(network: EfficientDet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same model with all anchors, and with the best only."""
    folder = tmp_path_factory.mktemp("top")
    meta = ArtifactMeta(SPEC, tuple(f"class_{index}" for index in range(CLASSES)), "fp32", "0" * 64)
    graph = graph_from_network(network, meta)
    for name, count in (("all", 0), ("top", TOP)):
        write_onnx(graph, meta.with_top_anchors(count), folder / f"{name}.onnx")
    return folder / "all.onnx", folder / "top.onnx"


def floor_of(path: Path, picture: np.ndarray) -> float:
    """The score above which fewer anchors than TOP pass."""
    _, engine = open_engine(path, 1)
    with engine:
        best = np.sort(engine.infer(picture[None]).class_logits.max(1))[::-1]
    return float(1 / (1 + np.exp(-best[TOP - 10])))


def same(first: Detections, second: Detections) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in (
            (first.boxes_xyxy, second.boxes_xyxy),
            (first.scores, second.scores),
            (first.class_ids, second.class_ids),
        )
    )


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: f"{rules.candidates}-{rules.method}-{rules.clip}")
def test_boxes_are_the_same_to_the_last_bit(files: tuple[Path, Path], rules: NmsRules) -> None:
    """Also where several classes of an anchor pass."""
    for picture in PICTURES:
        score = floor_of(files[0], picture)
        with Detector(files[0], 1, score, nms=rules) as every, Detector(files[1], 1, score, nms=rules) as top:
            expected, found = every(picture), top(picture)
        assert len(expected) > 20
        assert same(found, expected)


def test_the_file_says_what_it_keeps_and_few_bytes_come_out(files: tuple[Path, Path]) -> None:
    outputs = {}
    for path in files:
        meta, engine = open_engine(path, 1)
        with engine:
            outputs[path] = meta, engine.infer(PICTURES[0][None])
    meta, raw = outputs[files[1]]
    assert (meta.top_anchors, meta.outputs) == (TOP, TOP_OUTPUTS)
    assert raw.class_logits.shape == (TOP, CLASSES)
    assert (np.diff(raw.anchor_ids) > 0).all()
    meta, raw = outputs[files[0]]
    assert (meta.top_anchors, meta.outputs, raw.anchor_ids) == (0, ALL_OUTPUTS, None)


def test_a_graph_gets_all_its_anchors_back(files: tuple[Path, Path]) -> None:
    (every, _), (restored, _) = read_graph(files[0]), read_graph(files[1])
    for field in ("node", "initializer", "output", "input"):
        assert [item.SerializeToString() for item in getattr(every.graph, field)] == [
            item.SerializeToString() for item in getattr(restored.graph, field)
        ]


def test_all_anchors_are_no_choice_of_the_best(files: tuple[Path, Path]) -> None:
    meta, _ = open_engine(files[0], 1)
    assert meta.with_top_anchors(3069) == meta == meta.with_top_anchors(0)
    graph, _ = read_graph(files[0])
    assert keep_top_anchors(graph, 0) is graph is keep_all_anchors(graph)


def test_verification_finds_a_graph_that_keeps_others_than_the_best(
    files: tuple[Path, Path], network: EfficientDet, tmp_path: Path
) -> None:
    """Its rows are right each by itself; a minimum in place of the maximum chooses them."""
    assert verify(files[1], network, PICTURES[:1], 1).worst < 1e-5
    graph, meta = read_graph(files[1])
    wrong = keep_top_anchors(graph, TOP)
    next(node for node in wrong.graph.node if node.op_type == "ReduceMax").op_type = "ReduceMin"
    write_onnx(wrong, meta, tmp_path / "wrong.onnx")
    with pytest.raises(VerificationError, match="does not do what the checkpoint does"):
        verify(tmp_path / "wrong.onnx", network, PICTURES[:1], 1)


def test_verification_finds_rows_under_the_names_of_other_anchors(
    files: tuple[Path, Path], network: EfficientDet, tmp_path: Path
) -> None:
    graph, meta = read_graph(files[1])
    wrong = keep_top_anchors(graph, TOP)
    cast = next(node for node in wrong.graph.node if node.output[0] == TOP_OUTPUTS[2])
    cast.output[0] = "top.own"
    wrong.graph.initializer.append(onnx.numpy_helper.from_array(np.int32(SPEC.num_anchors - 1), "top.last"))
    wrong.graph.node.append(onnx.helper.make_node("Sub", ["top.last", "top.own"], [TOP_OUTPUTS[2]]))
    write_onnx(wrong, meta, tmp_path / "wrong.onnx")
    with pytest.raises(VerificationError, match="does not do what the checkpoint does"):
        verify(tmp_path / "wrong.onnx", network, PICTURES[:1], 1)


@pytest.mark.parametrize("count", [-1, 3841])
def test_what_tensorrt_cannot_keep_is_refused_before_anything_is_computed(count: int, tmp_path: Path) -> None:
    from edgedet.demo import WEIGHTS
    from edgedet.export.checkpoints.checkpoint import load_checkpoint
    from edgedet.export.export_onnx import export_onnx

    with pytest.raises(InputError, match="1 to 3840"):
        export_onnx(load_checkpoint(WEIGHTS), tmp_path / "model.onnx", 1, top_anchors=count)
    assert not list(tmp_path.iterdir())
