"""Pictures of several cameras go through an engine of a SIMULATED TensorRT at once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import trt_api
from simulated_driver import VIOLATIONS
from trt_built import V, load
from trt_models import SPEC, simulate

from edgedet.engines.base import open_engine
from edgedet.errors import ShapeError

pytestmark = pytest.mark.usefixtures("nothing_is_freed_without_a_context")


@pytest.mark.parametrize("version", trt_api.versions())
def test_an_engine_for_several_cameras_has_a_profile_for_each_number(
    version: str, built_by, monkeypatch, tmp_path: Path
):
    """Three pictures, one, two: each as if it were alone, whatever ran before."""
    paths = built_by(version, top_anchors=100, max_batch=3), built_by(version, top_anchors=100)
    simulate(monkeypatch, tmp_path, version)
    pixels = np.random.default_rng(5).integers(0, 256, (3, *SPEC.input_hw, 3), dtype=np.uint8)
    engines = (open_engine(path, 1)[1] for path in paths)
    with closing(next(engines)) as many, closing(next(engines)) as one:
        assert (many.max_batch, one.max_batch) == (3, 1)
        for count in (3, 1, 2):
            raws = many.infer_batch(pixels[:count])
            assert len(raws) == count
            for at, raw in enumerate(raws):
                alone = one.infer(pixels[at : at + 1])
                np.testing.assert_array_equal(raw.anchor_ids, alone.anchor_ids)
                np.testing.assert_array_equal(raw.class_logits, alone.class_logits)
        with pytest.raises(ShapeError, match="up to 3"):
            many.infer_batch(np.concatenate([pixels, pixels]))
    assert not VIOLATIONS


@pytest.mark.parametrize("use_graph", [True, False])
@pytest.mark.parametrize("zero_copy", [True, False])
def test_batches_run_with_and_without_graphs_and_copies(use_graph, zero_copy, built_by, monkeypatch, tmp_path: Path):
    path = built_by(V, max_batch=2)
    simulate(monkeypatch, tmp_path, V)
    pixels = np.random.default_rng(6).integers(0, 256, (2, *SPEC.input_hw, 3), dtype=np.uint8)
    with closing(load(path, zero_copy=zero_copy, use_graph=use_graph)) as engine:
        first, second = (raw.class_logits.copy() for raw in engine.infer_batch(pixels))
        assert engine.uses_graph == use_graph
        np.testing.assert_array_equal(engine.infer(pixels[1:]).class_logits, second)
        np.testing.assert_array_equal(engine.infer(pixels[:1]).class_logits, first)
