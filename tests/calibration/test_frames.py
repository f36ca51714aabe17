"""Calibration frames of images: which are taken, how they are split, and resized as the camera loop does."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_scenes import SPEC, everything, hashes, scene, write_images
from media import META

from edgedet.calibration.ranges import frame_picker
from edgedet.calibration.ranges import frames as frames_module
from edgedet.calibration.ranges.frames import split_blocks, take_calibration_frames
from edgedet.detector import Detector
from edgedet.engines.fake import FakeEngine
from edgedet.errors import InputError, SourceError
from edgedet.preprocess import Preprocessor
from edgedet.stream.images import read_image

cv2 = pytest.importorskip("cv2", reason="frames are read by OpenCV")
pytest.importorskip("tqdm", reason="the progress bar is tqdm's")


# --- splitting --------------------------------------------------------------------------------------------------


def test_a_hundred_frames_are_split_half_a_fifth_and_three_tenths_in_blocks_of_ten():
    split = split_blocks(100)
    assert {purpose: len(at) for purpose, at in split.items()} == {"C": 50, "S": 20, "G": 30}
    assert sorted(split["C"] + split["S"] + split["G"]) == list(range(100))
    for positions in split.values():
        assert all(len({positions.count(at) for at in range(start, start + 10)}) == 1 for start in range(0, 100, 10))


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (8, (4, 2, 2))])
def test_few_frames_go_to_calibration_first_then_to_the_gate(count, sizes):
    for seed in range(5):
        split = split_blocks(count, seed)
        assert (len(split["C"]), len(split["S"]), len(split["G"])) == sizes


def test_the_seed_turns_the_blocks():
    assert split_blocks(100, 1) == split_blocks(100, 1)
    assert len({tuple(split_blocks(100, seed)["G"]) for seed in range(10)}) > 1


# --- sources ----------------------------------------------------------------------------------------------------


def test_frames_are_what_the_runtime_feeds_the_network(tmp_path):
    folder = write_images(tmp_path / "x", range(12))
    sets = take_calibration_frames(folder, SPEC)
    preprocess = Preprocessor(SPEC)
    wanted = [preprocess(read_image(tmp_path / "x" / f"{at:03}.png")).pixels.copy() for at in split_blocks(12)["C"]]
    np.testing.assert_array_equal([frame.pixels for frame in sets.calibrate], wanted)
    assert {(frame.scale_to_source, frame.source_hw) for frame in sets.gate} == {(160 / 128, (120, 160))}


def test_splits_are_disjoint_and_the_seed_decides(tmp_path):
    folder = write_images(tmp_path / "x", range(48))
    first = take_calibration_frames(folder, SPEC, count=20, seed=3)
    assert (len(first.calibrate), len(first.select)) == (10, 4)
    assert len(everything(first)) == len(set(everything(first))) > 20  # more of the 48 go to the gate
    assert hashes(first) == hashes(take_calibration_frames(folder, SPEC, count=20, seed=3))
    assert set(everything(first)) != set(everything(take_calibration_frames(folder, SPEC, count=20, seed=4)))


def test_near_duplicates_are_dropped_and_replaced_by_their_neighbours(tmp_path):
    numbers = [0, 0, 1, 1, 2, 2, 3, 3]
    sets = take_calibration_frames(write_images(tmp_path / "x", numbers), SPEC, count=8)
    assert len(everything(sets)) == 4
    assert sets.duplicates == 4
    sets = take_calibration_frames(write_images(tmp_path / "y", [0, 0, 0, 1]), SPEC, count=2)  # slots of two: 0 0 | 0 1
    assert len(everything(sets)) == 2


def test_noise_makes_no_new_frame_and_a_small_moved_object_does(tmp_path):
    noise = np.random.default_rng(0).normal(0, 3, (120, 160, 3))
    noisy = np.clip(scene(0) + noise, 0, 255).astype(np.uint8)
    moved = scene(0)
    moved[100:108, 100:108] = 250  # 8 x 8 of 160 x 120 pixels
    for number, bgr in enumerate((scene(0), noisy, moved)):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), bgr)
    sets = take_calibration_frames(str(tmp_path), SPEC)
    assert (len(everything(sets)), sets.duplicates) == (2, 1)


def test_a_corrupt_image_is_named_and_the_rest_is_used(tmp_path):
    folder = write_images(tmp_path / "x", range(12))
    (tmp_path / "x" / "005.png").write_bytes(b"no image")
    sets = take_calibration_frames(folder, SPEC)
    assert len(everything(sets)) == 11
    assert sets.failures == (f"{tmp_path}/x/005.png is damaged or no image.",)
    assert any(note.startswith("the frames that cannot be used (1) are left out:") for note in sets.notes)


def test_nothing_readable_is_one_error(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"^no frame of .* can be read: .*a\.png is damaged .*\(and 1 more\)\.$"):
        take_calibration_frames(str(tmp_path), SPEC)


def test_black_frames_are_dropped_among_others_and_refused_alone(tmp_path):
    folder = write_images(tmp_path / "x", range(12))
    assert cv2.imwrite(f"{folder}/004.png", np.zeros((120, 160, 3), np.uint8))
    sets = take_calibration_frames(folder, SPEC)
    assert (len(everything(sets)), sets.blank) == (11, 1)
    for number in range(12):
        assert cv2.imwrite(f"{folder}/{number:03}.png", np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(InputError, match="all 12 frames of .* are evenly one colour"):
        take_calibration_frames(folder, SPEC)


def test_frames_that_all_look_alike_are_refused(tmp_path):
    with pytest.raises(InputError, match="all 6 frames of .* look alike"):
        take_calibration_frames(write_images(tmp_path / "x", [7] * 6), SPEC)


def test_one_image_calibrates_and_leaves_nothing_for_the_gate(tmp_path):
    write_images(tmp_path, [0])
    sets = take_calibration_frames(str(tmp_path / "000.png"), SPEC)
    assert (len(sets.calibrate), len(sets.select), len(sets.gate)) == (1, 0, 0)
    assert any("only 1 different frames" in note for note in sets.notes)


def test_of_ten_thousand_images_only_those_that_are_tried_are_read(tmp_path, monkeypatch):
    write_images(tmp_path, range(48))
    paths = [tmp_path / f"{at % 48:03}.png" for at in range(10_000)]
    read = []

    def counted(path):
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(frame_picker, "read_image", counted)
    source = frames_module.ImageSource("many", tmp_path, paths)
    monkeypatch.setattr(frames_module, "open_source", lambda text, stopped: source)
    sets = take_calibration_frames("many", SPEC, count=16)
    assert len(sets.calibrate) + len(sets.select) <= 12
    assert 16 <= len(everything(sets)) <= 48  # the gate has up to three times its share
    assert len(read) <= 48 * frame_picker.TRIES


# --- one way of resizing ----------------------------------------------------------------------------------------


class RecordingEngine(FakeEngine):
    """Keeps the pixels that it was given."""

    def __init__(self):
        super().__init__(META, [])
        self.seen = []

    def infer(self, pixels):
        self.seen.append(pixels.copy())
        return super().infer(pixels)


def test_calibration_and_detection_see_the_bytes_that_the_camera_loop_sees(tmp_path):
    """Frames of 640 x 360 into 128, which is a factor of 5: they are halved twice. Noise would show any other way."""
    bgr = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "noise.png"), bgr)
    expected = Preprocessor(SPEC)(bgr).pixels
    (frame,) = take_calibration_frames(str(tmp_path), SPEC, 1).calibrate
    np.testing.assert_array_equal(frame.pixels, expected)
    engine = RecordingEngine()  # with which labelled pictures are judged, too
    Detector((META, engine))(bgr)
    np.testing.assert_array_equal(engine.seen, [expected])


def test_training_sees_them_too_where_it_changes_nothing():
    """Augmentation starts from the same resizing, so a picture that is not augmented is the camera loop's."""
    pytest.importorskip("torch", reason="training needs PyTorch")
    from edgedet.training import augment

    bgr = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    nothing = np.zeros(0)
    sample = augment.Sample(bgr, np.zeros((0, 4), np.float32), nothing.astype(np.int64), nothing.astype(np.float32))
    placed = augment._place(sample, SPEC, 1.0, None)
    np.testing.assert_array_equal(placed.pixels, Preprocessor(SPEC)(bgr).pixels[0])
