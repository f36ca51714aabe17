"""A detector behind the gate: what it remembers, and how regions share looks."""

import numpy as np
import pytest
from quiet_scenes import INPUT_PX, WH, frames_of, person, scene, some

from edgedet.motion.gate import MotionRules
from edgedet.motion.gated import GatedDetector, merge_detections
from edgedet.motion.packing import make_look, pack_boxes, share_inputs
from edgedet.types import Frame, FrameResult

pytest.importorskip("cv2", reason="the gate uses OpenCV")

RARELY = MotionRules(full_every_s=100.0, idle_every_s=100.0)


def find_dark(frame):
    """Find dark rectangles, wherever they are in the picture."""
    import cv2

    dark = (frame.bgr[..., 0] < 35).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(dark)
    return FrameResult(frame, some(*((x, y, x + w, y + h) for x, y, w, h, area in stats[1:count] if area > 1000)))


def named(frame, camera):
    return Frame(frame.bgr, frame.captured_s, frame.index, camera=camera)


def test_what_stands_still_is_remembered_without_a_look():
    asked = []

    def look(parts):
        asked.extend(part.frame.index for part in parts)
        return [some((300, 400, 340, 500)) for _ in parts]

    gated = GatedDetector(look, RARELY, INPUT_PX)
    results = [gated.detect(frame) for frame in frames_of(scene(frames=20))]
    assert asked == [0]
    assert all(len(result.detections) == 1 for result in results)
    assert (gated.looks["none"], gated.looks["whole"]) == (19, 1)


def test_each_camera_has_its_own_background():
    gated = GatedDetector(lambda parts: [some() for _ in parts], RARELY, INPUT_PX)
    for a, b in zip(frames_of(scene(seed=1, frames=10)), frames_of(scene(seed=2, frames=10)), strict=True):
        gated.detect(named(a, "a"))
        gated.detect(named(b, "b"))
    assert gated.looks["whole"] == 2


def test_regions_of_four_cameras_share_one_run_of_the_network():
    runs = []

    def detect(frame):
        runs.append(frame.bgr.shape)
        return find_dark(frame)

    gated = GatedDetector(make_look(detect, INPUT_PX), RARELY, INPUT_PX)
    cameras = "abcd"
    for pictures in zip(*(frames_of(scene(frames=30), person) for _ in cameras), strict=True):
        frames = [named(frame, camera) for frame, camera in zip(pictures, cameras, strict=True)]
        before = len(runs)
        for frame in frames:
            gated.add(frame)
        results = gated.detect_batch(frames)
        index = frames[0].index
        if index == 25:
            left = 300 + 10 * (index - 20)
            assert len(runs) - before == 1
            assert runs[-1] == (INPUT_PX, INPUT_PX, 3)
            for result in results:
                (box,) = result.detections.boxes_xyxy
                np.testing.assert_allclose(box, (left, 400, left + 40, 500), atol=4)


def test_input_is_full_with_nine_regions_or_one_whole_picture():
    gated = GatedDetector(lambda parts: [some() for _ in parts], RARELY, INPUT_PX)
    cameras = "abcdefghij"
    for pictures in zip(*(frames_of(scene(frames=23), person) for _ in cameras), strict=True):
        frames = [named(frame, camera) for frame, camera in zip(pictures, cameras, strict=True)]
        full = [gated.add(frame) for frame in frames]
        gated.detect_batch(frames)
        if frames[0].index == 0:
            assert full[0]  # the first picture of a camera is looked at whole
        if frames[0].index == 22:
            assert full == [*[False] * 8, True, True]


def test_far_object_has_more_pixels_in_a_region_than_in_the_whole_picture():
    seen = []

    def detect(frame):
        result = find_dark(frame)
        seen.append((frame.bgr.shape[1], result.detections.boxes_xyxy))
        return result

    picture = np.full((1080, 1920, 3), 200, np.uint8)
    picture[500:560, 900:924] = 20
    picture[100:160, 100:124] = 20
    frame = Frame(picture, 0.0, 0)
    boxes = [np.array(box) for box in ((900, 500, 924, 560), (100, 100, 124, 160))]
    parts = pack_boxes([(frame, box) for box in boxes], INPUT_PX)
    found = make_look(detect, INPUT_PX)(parts)
    ((width, in_input),) = seen
    assert width == INPUT_PX
    assert all(height == 60 for height in in_input[:, 3] - in_input[:, 1])  # the whole picture, 1920 to 320, leaves 10
    np.testing.assert_allclose(found[0].boxes_xyxy[0], (900, 500, 924, 560), atol=1)
    np.testing.assert_allclose(found[1].boxes_xyxy[0], (100, 100, 124, 160), atol=1)


def test_parts_of_an_input_do_not_overlap_and_are_no_smaller_than_in_the_whole_picture():
    rng = np.random.default_rng(0)
    frame = Frame(np.zeros((720, 1280, 3), np.uint8), 0.0, 0)
    for _ in range(50):
        corners = rng.uniform(0, 600, (rng.integers(1, 14), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 500, corners.shape)], axis=1)
        inputs = share_inputs([(frame, box) for box in boxes], INPUT_PX)
        assert sum(map(len, inputs)) == len(boxes)
        for parts in inputs:
            taken = np.zeros((INPUT_PX, INPUT_PX), int)
            for part in parts:
                left, top, side = part.cell
                x1, y1, x2, y2 = part.square
                taken[top : top + side, left : left + side] += 1
                assert (left + side, top + side) <= (INPUT_PX, INPUT_PX)
                assert side / max(x2 - x1, y2 - y1) >= 0.99 * INPUT_PX / 1280
            assert taken.max() == 1


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


def test_look_at_the_whole_picture_forgets_nothing_that_is_too_small_for_it():
    """In 1280 pixels on an input of 320, 100 pixels become 25: regions show the person, looks at everything do not."""

    def detect(frame):
        return find_dark(frame) if frame.bgr.shape[1] < 1280 else FrameResult(frame, some())

    rules = MotionRules(full_every_s=3.0, idle_every_s=1.0)
    gated = GatedDetector(make_look(detect, INPUT_PX), rules, INPUT_PX)
    counts = []
    frames = frames_of(scene(frames=70), lambda index, picture: person(min(index, 24), picture, 20, 70))
    for frame in frames:
        before = gated.looks["whole"]
        counts.append((len(gated.detect(frame).detections), gated.looks["whole"] > before))
    assert [whole for _, whole in counts[30:]].count(True) >= 1
    assert {count for count, _ in counts[23:]} == {1}


def test_switched_light_forgets_everything():
    def switch(index, picture):
        if index >= 10:
            picture[:] = np.clip(picture.astype(int) + 50, 0, 255)

    def look(parts):
        return [some((300, 400, 340, 420)) if part.frame.index == 0 else some() for part in parts]

    gated = GatedDetector(look, RARELY, INPUT_PX)
    counts = [len(gated.detect(frame).detections) for frame in frames_of(scene(frames=12), switch)]
    assert counts == [1] * 10 + [0] * 2
