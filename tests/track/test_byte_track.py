"""Tracks: held to the package trackers, and to scenes whose truth is known."""

import numpy as np
import pytest
from scenes import walking_scene

from edgedet.track.byte_track import ByteTracker
from edgedet.types import Detections


def one_box(x1, score=0.9, class_id=0):
    return Detections(
        np.array([[x1, 10, x1 + 40, 90]], np.float32), np.array([score], np.float32), np.array([class_id], np.int64)
    )


def test_second_detection_makes_a_track():
    tracker = ByteTracker()
    ids = [tracker.update(one_box(10 + 4 * i), i / 10, score=0.4).tolist() for i in range(4)]
    assert ids == [[-1], [1], [1], [1]]


def test_unsure_detection_continues_a_track_and_begins_none():
    tracker = ByteTracker()
    scores = [0.9, 0.9, 0.25, 0.25]
    ids = [tracker.update(one_box(10, score), i / 10, score=0.4)[0] for i, score in enumerate(scores)]
    assert ids == [-1, 1, 1, 1]
    tracker = ByteTracker()
    assert [tracker.update(one_box(10, 0.25), i / 10, score=0.4)[0] for i in range(4)] == [-1] * 4


def test_object_that_comes_back_in_time_keeps_its_id():
    tracker = ByteTracker(lost_s=1.0)
    for i in range(10):
        tracker.update(one_box(10 + 4 * i), i / 10, score=0.4)
    for i in range(10, 15):
        tracker.update(Detections.empty(), i / 10, score=0.4)
    assert [(one.id, one.seen) for one in tracker.tracks] == [(1, False)]
    assert tracker.update(one_box(10 + 4 * 15), 1.5, score=0.4)[0] == 1


def test_track_ends_after_the_time_without_a_detection():
    tracker = ByteTracker(lost_s=1.0)
    for i in range(3):
        tracker.update(one_box(10), i / 10, score=0.4)
    tracker.update(Detections.empty(), 1.15, score=0.4)
    assert len(tracker.tracks) == 1
    tracker.update(Detections.empty(), 1.25, score=0.4)
    assert tracker.tracks == ()


def test_classes_are_not_mixed():
    tracker = ByteTracker()
    for i in range(3):
        tracker.update(one_box(10, class_id=0), i / 10, score=0.4)
    assert tracker.update(one_box(10, class_id=1), 0.3, score=0.4)[0] == -1


@pytest.mark.parametrize("seed", range(6))
def test_ids_are_those_of_the_package_trackers(seed):
    trackers = pytest.importorskip("trackers", reason="the package trackers is not installed")
    frames_lost = 10
    theirs = trackers.ByteTrackTracker(
        lost_track_buffer=frames_lost,
        frame_rate=30.0,
        track_activation_threshold=0.5,
        high_conf_det_threshold=0.5,
        minimum_consecutive_frames=2,
    )
    # Theirs drops a track after the frame in which it could still be matched: one frame later than the buffer says.
    ours = ByteTracker(lost_s=(frames_lost + 1) / 10 + 1e-6)
    ids = 0
    for frame in walking_scene(seed):
        expected = theirs.update(frame.detections.to_supervision())
        by_box = {tuple(box): number for box, number in zip(expected.xyxy, expected.tracker_id, strict=True)}
        got = ours.update(frame.detections, frame.time_s, score=0.5)
        wanted = [by_box[tuple(box)] for box in frame.detections.boxes_xyxy]
        assert [number - 1 if number > 0 else -1 for number in got] == wanted
        ids = max(ids, *got, 0)
    assert ids >= 8  # there was something to compare


def scores_of(scene):
    """Return (MOTA, IDF1) of our tracks, as TrackEval counts them, in a port of the package trackers."""
    metrics = pytest.importorskip("trackers.eval", reason="the package trackers is not installed")
    tracker = ByteTracker()
    truth_ids, track_ids, similarities = [], [], []
    for frame in scene:
        ids = tracker.update(frame.detections, frame.time_s, score=0.5)
        boxes = frame.detections.boxes_xyxy[ids > 0].astype(np.float64)
        truth_ids.append(frame.ids)
        track_ids.append(ids[ids > 0] - 1)
        similarities.append(metrics.box_iou(frame.boxes_xyxy, boxes))
    clear = metrics.compute_clear_metrics(truth_ids, track_ids, similarities)
    identity = metrics.compute_identity_metrics(truth_ids, track_ids, similarities)
    return clear["MOTA"], identity["IDF1"]


def test_few_walkers_are_followed_without_a_mistake():
    scores = [scores_of(walking_scene(seed, objects=3, missed=0.02)) for seed in range(4)]
    mota, idf1 = np.mean(scores, axis=0)
    assert mota > 0.93
    assert idf1 > 0.95


def test_many_walkers_are_mostly_followed():
    mota, idf1 = np.mean([scores_of(walking_scene(seed, objects=12)) for seed in range(4)], axis=0)
    assert mota > 0.8
    assert idf1 > 0.8


def test_slower_frames_cost_little():
    at_10 = np.mean([scores_of(walking_scene(seed, fps=10.0))[1] for seed in range(3)])
    at_3 = np.mean([scores_of(walking_scene(seed, fps=3.0))[1] for seed in range(3)])
    assert at_3 > at_10 - 0.1
