"""The numbers that calibration finds keep what was asked for, with the fewest looks."""

import pytest
from quiet_scenes import INPUT_PX, frames_of, person, scene, some

from edgedet.errors import SourceError
from edgedet.motion.calibrate import calibrate
from edgedet.motion.gate import MotionRules
from edgedet.types import FrameResult

pytest.importorskip("cv2", reason="the gate uses OpenCV")


def find_person(frame):
    """Find the dark rectangle that ``person`` draws, wherever the picture was cut."""
    dark = (frame.bgr[..., 0] < 35).nonzero()
    if len(dark[0]) < 1000:
        return FrameResult(frame, some())
    box = (dark[1].min(), dark[0].min(), dark[1].max() + 1, dark[0].max() + 1)
    return FrameResult(frame, some(box))


def test_found_numbers_keep_what_was_asked_for_with_few_looks():
    candidates = [MotionRules(16.0, area) for area in (0.0005, 0.05)]
    frames = frames_of(scene(frames=60), lambda index, picture: person(index, picture, 10, 20))
    found = calibrate(frames, find_person, INPUT_PX, 0.99, lambda done: None, candidates)
    assert (found.frames, found.detections) == (60, 10)
    assert found.chosen.rules == candidates[0]
    assert found.chosen.kept >= 0.99
    assert found.measured.kept >= 0.99
    assert (
        found.chosen.looks <= 0.4
    )  # 10 of 60 frames show somebody; the first one and the second after that are looks, too
    assert found.chosen.squares > 0.8
    assert min(trial.looks for trial in found.trials if trial.kept >= 0.99) == found.chosen.looks


def test_scene_without_objects_cannot_be_calibrated_on():
    with pytest.raises(SourceError, match="nothing was detected in 5 frames"):
        calibrate(frames_of(scene(frames=5)), find_person, INPUT_PX, 0.99, lambda done: None)
