"""When and where the gate looks."""

import numpy as np
import pytest
from quiet_scenes import INPUT_PX, WH, frames_of, person, scene, some

from edgedet.errors import InputError
from edgedet.motion.gate import MotionGate, MotionRules, parse_rules
from edgedet.motion.gated import GatedDetector, merge_detections
from edgedet.types import Frame

pytest.importorskip("cv2", reason="the gate uses OpenCV")


def looks_of(frames, **rules):
    gate = MotionGate(MotionRules(**rules), INPUT_PX)
    return [gate.look(frame) for frame in frames]


@pytest.mark.parametrize("noise", [1.0, 8.0])
def test_noise_is_no_motion_and_the_whole_picture_is_looked_at_now_and_then(noise):
    looks = looks_of(frames_of(scene(noise=noise, frames=100)), full_every_s=4.0)
    assert [index for index, look in enumerate(looks) if look] == [0, 40, 80]
    assert looks[40] == (0, 0, *WH)


def test_person_is_looked_at_in_a_square_of_the_models_size_around():
    looks = looks_of(frames_of(scene(), person), full_every_s=100.0)
    assert looks[0] == (0, 0, *WH)
    assert looks[1:20] == [None] * 19
    for index in range(20, 40):
        x1, y1, x2, y2 = looks[index]
        assert (x2 - x1, y2 - y1) == (INPUT_PX, INPUT_PX)
        assert x1 <= 300 + 10 * (index - 20)
        assert x2 >= 340 + 10 * (index - 20)
        assert y1 <= 400
        assert y2 >= 500
    assert None in looks[40:]


def test_two_far_apart_are_a_look_at_the_whole_picture():
    def both(index, picture):
        if index >= 20:
            picture[400:500, 20:60] = 20
            picture[50:150, 1220:1260] = 250

    looks = looks_of(frames_of(scene(), both), full_every_s=100.0)
    assert looks[21] == (0, 0, *WH)


def test_light_that_is_switched_costs_one_look():
    def switch(index, picture):
        if index >= 30:
            picture[:] = np.clip(picture.astype(int) + 50, 0, 255)

    looks = looks_of(frames_of(scene(), switch), full_every_s=100.0)
    assert [index for index, look in enumerate(looks) if look] == [0, 30]


def test_camera_that_shakes_looks_at_the_whole_picture():
    def shake(index, picture):
        if index >= 30:
            picture[:] = np.roll(picture, 60 * (index % 2), axis=1)

    looks = looks_of(frames_of(scene(frames=40), shake), full_every_s=100.0)
    assert all(look is not None for look in looks[31:])


def test_what_stands_still_is_remembered_without_a_look():
    asked = []

    def look(frame, square):
        asked.append(frame.index)
        return some((300, 400, 340, 500))

    gated = GatedDetector(look, MotionRules(full_every_s=100.0), INPUT_PX)
    results = [gated.detect(frame) for frame in frames_of(scene(frames=20))]
    assert asked == [0]
    assert all(len(result.detections) == 1 for result in results)
    assert (gated.looks["none"], gated.looks["whole"]) == (19, 1)


def test_each_camera_has_its_own_background():
    gated = GatedDetector(lambda frame, square: some(), MotionRules(full_every_s=100.0), INPUT_PX)
    for a, b in zip(frames_of(scene(seed=1, frames=10)), frames_of(scene(seed=2, frames=10)), strict=True):
        gated.detect(Frame(a.bgr, a.captured_s, a.index, camera="a"))
        gated.detect(Frame(b.bgr, b.captured_s, b.index, camera="b"))
    assert gated.looks["whole"] == 2


def test_look_into_a_square_replaces_what_was_inside_and_keeps_the_rest():
    square = (200, 200, 520, 520)
    before = some((250, 250, 300, 300), (900, 100, 950, 200), (500, 300, 560, 400))
    seen = some((270, 250, 320, 300), (500, 300, 520, 400), score=0.8)  # the second one is cut by the edge
    after = merge_detections(before, seen, square, WH)
    assert sorted(map(tuple, after.boxes_xyxy.tolist())) == [
        (270, 250, 320, 300),
        (500, 300, 560, 400),
        (900, 100, 950, 200),
    ]
    gone = merge_detections(before, some(), square, WH)
    assert sorted(map(tuple, gone.boxes_xyxy.tolist())) == [(500, 300, 560, 400), (900, 100, 950, 200)]


def test_edge_of_the_picture_cuts_no_box():
    before = some((0, 250, 50, 300))
    assert len(merge_detections(before, some(), (0, 100, 320, 420), WH)) == 0


def test_rules_are_two_or_three_numbers():
    assert parse_rules("8,0.001") == MotionRules(8.0, 0.001)
    assert parse_rules("8,0.001,5") == MotionRules(8.0, 0.001, 5.0)
    for text in ("8", "a,b", "0,0.1", "8,2"):
        with pytest.raises(InputError):
            parse_rules(text)
