"""The study of post-processing's speed: its simulated outputs are what it says, and it prints a table, then JSON."""

from __future__ import annotations

import json

import pytest

from edgedet.anchors import anchors_for
from edgedet.benchmarks.studies import postprocess_speed
from edgedet.postprocess import logit_of, postprocess
from edgedet.specs import SPECS, resized


def test_simulated_outputs_have_the_share_of_candidates_and_boxes_that_belong_together():
    """1 % of 49,104 anchors in clusters of 30: about 490 candidates, NMS keeps a few of each of the 16 objects."""
    spec = SPECS["tf_efficientdet_d0"]
    anchors = anchors_for(spec)
    raw = postprocess_speed.simulate_outputs(anchors, spec.num_classes, share=0.01)
    candidates = int((raw.class_logits > logit_of(postprocess_speed.SCORE)).sum())
    assert 440 <= candidates <= 480  # 16 clusters of 30, of which some share an anchor and class
    found = postprocess(raw, anchors, 1.0, spec.input_hw, score=postprocess_speed.SCORE)
    assert 16 <= len(found) <= 100


def test_the_speed_benchmark_prints_a_table_then_json(capsys, monkeypatch):
    """On a small D0, because only D0 and D7 at their own size take seconds."""
    small = resized(SPECS["tf_efficientdet_d0"], (128, 128))
    monkeypatch.setattr(postprocess_speed, "MOST_TOP_ANCHORS", 500)
    monkeypatch.setattr(postprocess_speed, "SPECS", {name: small for name in postprocess_speed.MODELS})
    assert postprocess_speed.main(["--runs", "3"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert [row["model"] for row in figures["models"]] == [name for name in postprocess_speed.MODELS for _ in range(2)]
    assert [row["target_p50_ms"] for row in figures["models"]] == [4.0, 4.0, 40.0, 40.0]
    assert [row["rows"] for row in figures["models"]] == [3069, 500] * 2
    assert [row["output_bytes"] for row in figures["models"][:2]] == [3069 * 94 * 4, 500 * 95 * 4]
    assert figures["models"][0]["boxes"] == figures["models"][1]["boxes"] > 0
    assert figures["models"][0]["n"] == 3
    assert len(table) == 6


def test_a_share_out_of_range_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        postprocess_speed.main(["--share", "2"])
    assert ended.value.code == 2
    assert "--share" in capsys.readouterr().err
