"""When and where the gate looks."""

import numpy as np
import pytest
from quiet_scenes import INPUT_PX, frames_of, person, scene, some

from edgedet.errors import InputError
from edgedet.motion.gate import MotionGate, MotionRules, parse_rules
from edgedet.motion.gated import GatedDetector
from edgedet.types import Frame

pytest.importorskip("cv2", reason="the gate uses OpenCV")


def plans_of(frames, remembered=None, **rules):
    gate = MotionGate(MotionRules(**rules))
    return [gate.plan(frame, some() if remembered is None else remembered) for frame in frames]


def words_of(plans):
    """Return for each plan "whole", or the number of its boxes."""
    return ["whole" if plan.whole else len(plan.boxes_xyxy) for plan in plans]


@pytest.mark.parametrize("noise", [1.0, 8.0])
def test_noise_is_no_motion_and_the_whole_picture_is_looked_at_now_and_then(noise):
    words = words_of(plans_of(frames_of(scene(noise=noise, frames=100)), full_every_s=4.0))
    assert [index for index, word in enumerate(words) if word] == [0, 40, 80]
    assert {words[0], words[40], words[80]} == {"whole"}


def test_person_is_in_a_box_that_is_looked_at():
    plans = plans_of(frames_of(scene(), person), full_every_s=100.0)
    assert words_of(plans[:20]) == ["whole"] + [0] * 19
    for index in range(20, 40):
        assert not plans[index].whole
        left = 300 + 10 * (index - 20)
        inside = [
            x1 <= left and x2 >= left + 40 and y1 <= 400 and y2 >= 500 for x1, y1, x2, y2 in plans[index].boxes_xyxy
        ]
        assert any(inside)
    assert words_of(plans[52:]) == [0] * 8  # a second after somebody left


def test_box_of_motion_holds_all_of_the_object_that_it_touches():
    known = some((280, 350, 520, 520))
    plans = plans_of(frames_of(scene(frames=24), person), known, full_every_s=100.0, idle_every_s=100.0)
    (box,) = plans[22].boxes_xyxy
    assert (box[:2] <= (280, 350)).all()
    assert (box[2:] >= (520, 520)).all()


def test_place_that_came_to_rest_is_looked_at_for_a_second_more():
    def arrive(index, picture):
        picture[400:500, 300 + 10 * min(index, 10) :][:, :40] = 20

    words = words_of(plans_of(frames_of(scene(frames=60), arrive), full_every_s=100.0))
    last = max(index for index, word in enumerate(words) if word)
    assert last >= 20


def test_object_that_stands_still_is_looked_at_now_and_then():
    plans = plans_of(frames_of(scene(frames=65)), some((300, 400, 340, 500)), full_every_s=100.0, idle_every_s=3.0)
    assert [index for index, word in enumerate(words_of(plans)) if word] == [0, 30, 60]
    assert words_of(plans)[30] == 1


def test_light_that_is_switched_costs_one_look():
    def switch(index, picture):
        if index >= 30:
            picture[:] = np.clip(picture.astype(int) + 50, 0, 255)

    words = words_of(plans_of(frames_of(scene(), switch), full_every_s=100.0))
    assert [index for index, word in enumerate(words) if word] == [0, 30]


def test_camera_that_shakes_looks_at_the_whole_picture():
    def shake(index, picture):
        if index >= 30:
            picture[:] = np.roll(picture, 60 * (index % 2), axis=1)

    gated = GatedDetector(lambda parts: [some() for _ in parts], MotionRules(full_every_s=100.0), INPUT_PX)
    for frame in frames_of(scene(frames=40), shake):
        gated.detect(frame)
    assert gated.looks["whole"] == 10


def test_cameras_take_turns_with_their_looks_at_the_whole_picture():
    gated = GatedDetector(lambda parts: [some() for _ in parts], MotionRules(full_every_s=4.0), INPUT_PX)
    at = {}
    for name in "abc":
        for frame in frames_of(scene(frames=60)):
            before = gated.looks["whole"]
            gated.detect(Frame(frame.bgr, frame.captured_s, frame.index, camera=name))
            if gated.looks["whole"] > before:
                at.setdefault(name, []).append(frame.index)
    assert [numbers[0] for numbers in at.values()] == [0, 0, 0]
    assert len({numbers[1] for numbers in at.values()}) == 3


def test_rules_are_two_or_three_numbers():
    assert parse_rules("8,0.001") == MotionRules(8.0, 0.001)
    assert parse_rules("8,0.001,5") == MotionRules(8.0, 0.001, 5.0)
    for text in ("8", "a,b", "0,0.1", "8,2"):
        with pytest.raises(InputError):
            parse_rules(text)
