"""Targets and losses against effdet's own, and codes against the decoder of the device."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dataclasses import replace

from effdet_oracle import import_effdet

from edgedet.anchors import anchors_for
from edgedet.postprocess import decode
from edgedet.specs import resized, spec_for
from edgedet.training.loss import BOX_WEIGHT, compute_loss
from edgedet.training.targets import BACKGROUND, IGNORED, encode_boxes, make_targets

SPEC = replace(spec_for("tf_efficientdet_d0"), input_hw=(128, 192), num_classes=3)
ANCHORS = torch.from_numpy(anchors_for(SPEC))


def random_labels(seed: int, count: int, smallest: float = 4.0):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, [150, 90], (count, 2))
    boxes = np.hstack([corners, corners + random.uniform(smallest, 100, (count, 2))]).astype(np.float32)
    return torch.from_numpy(boxes), torch.from_numpy(random.integers(0, 3, count)), torch.ones(count)


def effdet_parts():
    import_effdet()
    from effdet import get_efficientdet_config
    from effdet.anchors import AnchorLabeler, Anchors
    from effdet.loss import loss_fn

    config = get_efficientdet_config(SPEC.name)
    config.image_size, config.num_classes = SPEC.input_hw, SPEC.num_classes
    anchors = Anchors.from_config(config)
    return AnchorLabeler(anchors, SPEC.num_classes), loss_fn, config


def flat(levels, last):
    return torch.cat([level.reshape(len(level), -1, last) for level in levels], 1)


def test_targets_are_effdets():
    """Two of the boxes overlap much, one is too small for any anchor: it still gets its best one."""
    labeler, _, _ = effdet_parts()
    labels = [random_labels(0, 6), random_labels(1, 1, smallest=1.0), random_labels(2, 9)]
    labels[0][0][1] = labels[0][0][0] + 1.0
    mine = make_targets(ANCHORS, labels)
    classes, boxes, positives = labeler.batch_label_anchors(
        [xyxy[:, [1, 0, 3, 2]] for xyxy, _, _ in labels], [ids + 1 for _, ids, _ in labels]
    )
    assert torch.equal(mine.class_ids, flat(classes, 1)[..., 0])
    torch.testing.assert_close(mine.box_codes, flat(boxes, 4), atol=1e-6, rtol=0)
    assert int(mine.positives) == int(positives.sum()) > 16


def test_losses_are_effdets():
    labeler, loss_fn, config = effdet_parts()
    labels = [random_labels(3, 4), random_labels(4, 7)]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, len(ANCHORS), 3, generator=generator) - 3
    codes = torch.randn(2, len(ANCHORS), 4, generator=generator) / 5
    targets, at, levels = make_targets(ANCHORS, labels), 0, []
    for h, w in SPEC.level_sizes():
        part = slice(at, at + h * w * 9)
        levels.append([t[:, part].reshape(2, h, w, -1).permute(0, 3, 1, 2) for t in (logits, codes)])
        at = part.stop
    classes, boxes, positives = labeler.batch_label_anchors(
        [xyxy[:, [1, 0, 3, 2]] for xyxy, _, _ in labels], [ids + 1 for _, ids, _ in labels]
    )
    total, class_loss, box_loss = loss_fn(
        [level[0] for level in levels],
        [level[1] for level in levels],
        classes,
        boxes,
        positives,
        3,
        config.alpha,
        config.gamma,
        config.delta,
        config.box_loss_weight,
    )
    mine = compute_loss(logits, codes, targets)
    torch.testing.assert_close(mine[0], class_loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(mine[1], box_loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(mine[0] + BOX_WEIGHT * mine[1], total, rtol=1e-5, atol=0)


def test_the_device_decodes_what_is_encoded():
    boxes, _, _ = random_labels(5, 40)
    anchors = ANCHORS[1000:1040]
    back = decode(encode_boxes(boxes[:, [1, 0, 3, 2]], anchors).numpy(), anchors.numpy())
    np.testing.assert_allclose(back, boxes.numpy(), atol=1e-3)


def test_anchors_on_a_crowd_are_neither_objects_nor_background():
    """An anchor that is itself the crowd's box counts for nothing; without labels all anchors are background."""
    anchor = 2000
    box = ANCHORS[anchor : anchor + 1][:, [1, 0, 3, 2]]
    crowd, empty = (box, torch.tensor([-1]), torch.ones(1)), (torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0))
    targets = make_targets(ANCHORS, [crowd, empty])
    assert targets.class_ids[0, anchor] == IGNORED
    assert (targets.class_ids[1] == BACKGROUND).all()
    assert int(targets.positives) == 0
    logits = torch.zeros(2, len(ANCHORS), 3)
    right = compute_loss(logits, torch.zeros(2, len(ANCHORS), 4), targets)[0]
    logits[0, anchor] = 9.0
    assert compute_loss(logits, torch.zeros(2, len(ANCHORS), 4), targets)[0] == right


def test_small_anchors_within_a_crowd_are_ignored_too():
    """A crowd over the whole picture leaves no anchor background that lies in the picture by half or more."""
    anchors = torch.from_numpy(anchors_for(resized(spec_for("tf_efficientdet_d0"), (128, 128))))
    crowd = torch.tensor([[0.0, 0.0, 128.0, 128.0]]), torch.tensor([-1]), torch.ones(1)
    (class_ids,) = make_targets(anchors, [crowd]).class_ids
    y1, x1, y2, x2 = anchors.clamp(0, 128).T
    inside = (y2 - y1) * (x2 - x1) / (anchors[:, 2:] - anchors[:, :2]).prod(1)
    assert torch.equal(class_ids == IGNORED, inside >= 0.5)
    assert (class_ids == BACKGROUND).any()


def test_an_unsure_label_asks_for_its_score():
    """Of a pseudo-label with score 0.7 the loss is least where the network says 0.7."""
    box = ANCHORS[2000:2001][:, [1, 0, 3, 2]]
    targets = make_targets(ANCHORS, [(box, torch.tensor([1]), torch.tensor([0.7]))])
    scores = torch.linspace(0.05, 0.95, 19)
    losses = []
    for score in scores:
        logits = torch.full((1, len(ANCHORS), 3), -12.0)
        logits[targets.class_ids == 1, 1] = torch.logit(score)
        losses.append(float(compute_loss(logits, torch.zeros(1, len(ANCHORS), 4), targets)[0]))
    assert abs(float(scores[int(np.argmin(losses))]) - 0.7) < 1e-3
