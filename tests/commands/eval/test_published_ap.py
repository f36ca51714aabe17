"""Do real checkpoints keep the AP that their JSON files have from effdet's own pipeline?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgedet import cli
from edgedet.judge.average_precision import compute_accuracy
from edgedet.judge.labels import match_classes, read_dataset
from edgedet.types import Detections

cv2 = pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
pytest.importorskip("pycocotools", reason="needs the bench extra")

README_TOLERANCE = (
    0.001  # of each figure, pre-processing as in training; 0.0002 was seen, for the order of float32 sums
)
SHIPPED_TOLERANCE = 0.01  # as the runtime does it
CHECKPOINTS = {"cards": "data/cards/images/test", "street": "data/street/test.json"}


def published(shared_dir, name):
    return json.loads((shared_dir / f"weights/tf_efficientdet_d0_{name}.json").read_text())


def exported_ap(shared_dir, folder, name):
    """Export the checkpoint and return the figures of `edgedet eval` on its test data."""
    pytest.importorskip("torch", reason="needs the export extra")
    weights = shared_dir / f"weights/tf_efficientdet_d0_{name}.pth"
    assert cli.main(["export", "--phi", "0", "--weights", str(weights), "--out", str(folder), "--threads", "1"]) == 0
    model = folder / f"tf_efficientdet_d0_{name}.onnx"
    data = shared_dir / CHECKPOINTS[name]
    assert cli.main(["eval", str(model), "--data", str(data), "--threads", "1", "--json", str(folder / "f.json")]) == 0
    return json.loads((folder / "f.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_exported_file_keeps_the_published_ap(shared_dir, tmp_path, name):
    """As shipped: the picture's rest is filled with round(255 x mean) before normalising, not with 0 after it."""
    found, wanted = exported_ap(shared_dir, tmp_path, name), published(shared_dir, name)
    assert found["images"] == wanted["test_images"]
    assert abs(found["AP"] - wanted["AP"]) < SHIPPED_TOLERANCE
    assert set(found["per_class"]) == set(wanted["classes"])


def readme_detections(network, spec, bgr):
    """Pre-process as the checkpoint was trained: normalise, then pad with zeros; clip to the canvas, then scale."""
    import torch

    from edgedet.anchors import anchors_for
    from edgedet.judge.average_precision import SCORE_FLOOR
    from edgedet.postprocess import postprocess
    from edgedet.types import RawOutputs

    side = spec.input_hw[0]
    scale = min(side / bgr.shape[0], side / bgr.shape[1])
    w, h = int(bgr.shape[1] * scale), int(bgr.shape[0] * scale)
    rgb = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), (w, h), interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((1, 3, side, side), dtype=np.float32)
    normalised = (rgb.astype(np.float32) / 255 - np.float32(spec.mean_rgb)) / np.float32(spec.std_rgb)
    canvas[0, :, :h, :w] = normalised.transpose(2, 0, 1)
    with torch.inference_mode():
        logits, codes = network(torch.from_numpy(canvas))
    raw = RawOutputs(logits[0].numpy(), codes[0].numpy())
    found = postprocess(raw, anchors_for(spec), 1.0, (side, side), score=SCORE_FLOOR)
    return Detections(found.boxes_xyxy / np.float32(scale), found.scores, found.class_ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_network_has_the_published_ap_where_pictures_are_prepared_as_in_training(shared_dir, name):
    """All twelve figures and not AP alone, because nothing differs but the order of float32 sums."""
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
    from edgedet.judge.average_precision import detect_images

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(shared_dir / f"weights/tf_efficientdet_d0_{name}.pth")
    network = network_from_checkpoint(checkpoint)
    dataset = read_dataset(shared_dir / CHECKPOINTS[name])
    found, failures = detect_images(lambda bgr: readme_detections(network, checkpoint.spec, bgr), dataset.images)
    assert failures == []
    class_map = match_classes(dataset, checkpoint.class_names)
    accuracy = compute_accuracy(found, class_map, checkpoint.class_names)
    stats = [-1.0 if value is None else value for value in accuracy.figures.values()]
    assert stats == pytest.approx(published(shared_dir, name)["stats"], abs=README_TOLERANCE)
