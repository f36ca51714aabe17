"""Post-processing gives the boxes, scores and order that effdet's own gives, by hard and by soft NMS."""

from __future__ import annotations

import numpy as np
import pytest
from effdet_oracle import import_effdet

from edgedet.anchors import anchors_for
from edgedet.postprocess import (
    SOFT_RULES,
    postprocess,
)
from edgedet.specs import SPECS, resized
from edgedet.types import RawOutputs


@pytest.fixture
def one_torch_thread():
    """Small tensors: a second thread only costs."""
    import_effdet()
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained_like_outputs(anchors, num_classes, seed, doubt=-5.5):
    """Return outputs as a trained network gives: clusters of sure neighbours over a field of doubt (mean logit)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(doubt, 0.8, (len(anchors), num_classes)).astype(np.float32)
    for _ in range(40):
        first = int(rng.integers(len(anchors) - 40))
        logits[first : first + 40, rng.integers(num_classes)] = rng.normal(0.5, 1.5, 40)
    codes = rng.normal(0, 0.25, (len(anchors), 4)).astype(np.float32)
    return RawOutputs(logits, codes)


def effdet_detections(spec, raw, scale_to_source, source_hw, soft_nms):
    """Return effdet's own (n, 6) x1 y1 x2 y2 score class-from-1, padding removed."""
    import torch
    from effdet.anchors import Anchors, generate_detections
    from effdet.bench import _post_process

    classes, boxes, start = [], [], 0
    for h, w in spec.level_sizes():
        stop = start + h * w * spec.anchors_per_cell
        for maps, values in ((classes, raw.class_logits), (boxes, raw.box_codes)):
            maps.append(torch.from_numpy(values[start:stop].reshape(1, h, w, -1)).permute(0, 3, 1, 2))
        start = stop
    logits, codes, indices, class_ids = _post_process(classes, boxes, spec.num_levels, raw.class_logits.shape[1])
    anchors = Anchors(
        spec.min_level, spec.max_level, len(spec.anchor_scales), spec.aspect_ratios, spec.anchor_scale, spec.input_hw
    )
    found = generate_detections(
        logits[0],
        codes[0],
        anchors.boxes,
        indices[0],
        class_ids[0],
        torch.tensor(scale_to_source),
        torch.tensor([float(source_hw[1]), float(source_hw[0])]),
        100,
        soft_nms,
    ).numpy()
    return found[found[:, 4] > 0]


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_classes", [1, 6, 90])
@pytest.mark.parametrize(
    ("input_hw", "source_hw"), [((256, 256), (576, 768)), ((256, 384), (640, 480))], ids=["landscape", "portrait"]
)
def test_hard_nms_equals_effdet(seed, num_classes, input_hw, source_hw):
    """Boxes within 1e-3 px, scores within 1e-6, same order, for equal raw outputs."""
    spec = resized(SPECS["tf_efficientdet_d0"], input_hw)
    anchors = anchors_for(spec)
    raw = trained_like_outputs(anchors, num_classes, seed)
    scale_to_source = 1 / min(input_hw[0] / source_hw[0], input_hw[1] / source_hw[1])
    oracle = effdet_detections(spec, raw, scale_to_source, source_hw, soft_nms=False)
    found = postprocess(raw, anchors, scale_to_source, source_hw, score=0.001)
    assert len(found) == len(oracle) == 100
    np.testing.assert_array_equal(found.class_ids, oracle[:, 5] - 1)
    np.testing.assert_allclose(found.scores, oracle[:, 4], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, oracle[:, :4], rtol=0, atol=1e-3)


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("num_classes", "atol"), [(1, 1e-6), (6, 1e-5)])
def test_soft_nms_equals_effdet(seed, num_classes, atol):
    """effdet keeps classes apart by moving each 600 pixels on, which costs its float32 IoU some digits: hence 1e-5."""
    spec = resized(SPECS["tf_efficientdet_d0"], (256, 256))
    anchors = anchors_for(spec)
    raw = trained_like_outputs(anchors, num_classes, seed, doubt=-12.0)  # effdet's loop runs over all that is left
    oracle = effdet_detections(spec, raw, 3.0, (576, 768), soft_nms=True)
    found = postprocess(raw, anchors, 3.0, (576, 768), score=0.001, rules=SOFT_RULES)
    assert len(found) == len(oracle) == 100
    np.testing.assert_allclose(found.scores, oracle[:, 4], rtol=0, atol=atol)
    np.testing.assert_array_equal(found.class_ids, oracle[:, 5] - 1)
    np.testing.assert_allclose(found.boxes_xyxy, oracle[:, :4], rtol=0, atol=1e-3)
