"""Calibration frames: which are taken, how they are split, and what is said where there is nothing to take."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from media import META, write_clip

from edgedet.calibration.ranges import frame_picker
from edgedet.calibration.ranges import frames as frames_module
from edgedet.calibration.ranges.frames import (
    PHOTOGRAPHS,
    sha256_of_frame,
    split_blocks,
    take_calibration_frames,
)
from edgedet.detector import Detector
from edgedet.engines.fake import FakeEngine
from edgedet.errors import InputError, SourceError
from edgedet.preprocess import Preprocessor
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.images import read_image
from edgedet.stream.live import LiveSource

cv2 = pytest.importorskip("cv2", reason="frames are read by OpenCV")
pytest.importorskip("tqdm", reason="the progress bar is tqdm's")

SPEC = META.spec  # 128 x 128


def scene(number, size_wh=(160, 120)):
    """A grey picture with one bright square, which is elsewhere for each number below 48."""
    bgr = np.full((size_wh[1], size_wh[0], 3), 60, dtype=np.uint8)
    y, x = divmod(number, 8)
    bgr[20 * y : 20 * y + 20, 20 * x : 20 * x + 20] = 250
    return bgr


def write_images(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for at, number in enumerate(numbers):
        assert cv2.imwrite(str(folder / f"{at:03}.png"), scene(number))
    return str(folder)


def hashes(sets):
    return {name: [sha256_of_frame(frame) for frame in getattr(sets, name)] for name in ("calibrate", "select", "gate")}


def everything(sets):
    return [sha for part in hashes(sets).values() for sha in part]


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


def write_scenes(path, count):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (160, 120))
    for number in range(count):
        writer.write(scene(number))
    writer.release()
    return str(path)


def test_a_video_is_covered_evenly(tmp_path):
    sets = take_calibration_frames(write_scenes(tmp_path / "a.avi", 36), SPEC, count=9)  # so few: no more for the gate
    bright = sorted(
        int(frame.pixels[0, :96].mean(-1).argmax())
        for part in (sets.calibrate, sets.select, sets.gate)
        for frame in part
    )
    squares = sorted((at // 128 // 16) * 8 + at % 128 // 16 for at in bright)  # 16 pixels of the input a square
    assert [square // 4 for square in squares] == list(range(9))  # one in each stretch of four frames


def test_a_video_of_unknown_length_is_counted_first(tmp_path, monkeypatch):
    path = write_scenes(tmp_path / "a.avi", 40)
    whole = take_calibration_frames(path, SPEC, count=10)
    opened = frames_module.open_source

    def without_total(text, stopped):
        source = opened(text, stopped)
        source.total = None
        return source

    for module in (frames_module, frame_picker):
        monkeypatch.setattr(module, "open_source", without_total)
    assert hashes(take_calibration_frames(path, SPEC, count=10)) == hashes(whole)


def test_a_video_of_even_grey_is_refused(tmp_path):
    with pytest.raises(InputError, match="evenly one colour"):
        take_calibration_frames(str(write_clip(tmp_path / "grey.avi")), SPEC)


class FakeCamera:
    """Delivers a new scene every 5 ms."""

    def __init__(self, frames):
        self.left = list(range(frames))

    def read(self, into=None):
        time.sleep(0.005)
        return (True, scene(self.left.pop(0) % 48)) if self.left else (False, None)

    def captured_s(self):
        return time.monotonic()

    def get(self, prop):
        return 0.0

    def release(self):
        pass


def live(name, camera, stopped):
    """Return a source of one fake camera that is not opened again."""
    return LiveSource([(name, lambda: camera)], stopped, recovery=Recovery(retries=0))


def test_a_camera_is_watched_for_some_seconds(monkeypatch):
    monkeypatch.setattr(
        frames_module, "open_source", lambda text, stopped: live("camera 0", FakeCamera(10_000), stopped)
    )
    sets = take_calibration_frames("0", SPEC, count=8, live_seconds=0.8)
    assert 3 <= len(everything(sets)) <= 8  # a frame each 0.1 s, on a busy machine fewer


def test_a_camera_that_ends_gives_what_came(monkeypatch):
    monkeypatch.setattr(frames_module, "open_source", lambda text, stopped: live("camera 0", FakeCamera(20), stopped))
    sets = take_calibration_frames("0", SPEC, count=1000, live_seconds=10.0)
    assert 2 <= len(everything(sets)) <= 20
    assert sets.failures == ("camera 0 stopped delivering: no frame came.",)


def test_without_a_source_the_demo_takes_its_clip():
    sets = take_calibration_frames(None, SPEC, count=20, is_demo=True)
    assert (len(sets.calibrate), len(sets.select), len(sets.gate)) == (10, 4, 18)
    assert sets.source == "street.mp4"
    assert sets.notes == ()


def test_without_a_source_other_models_take_photographs_and_say_so():
    pytest.importorskip("skimage", reason="the photographs are scikit-image's")
    sets = take_calibration_frames(None, SPEC)
    assert len(everything(sets)) == len(PHOTOGRAPHS)
    assert sets.to_dict()["source"] == "scikit-image's photographs"
    assert any("frames of the scene that the camera will see are better" in note for note in sets.notes)


def test_the_report_tells_no_password_and_no_folder(tmp_path, monkeypatch):
    url = "rtsp://user:secret@10.0.0.5:554/live?token=abc"
    assert take_calibration_frames(write_images(tmp_path / "x", range(3)), SPEC).to_dict()["source"] == "x"
    monkeypatch.setattr(frames_module, "open_source", lambda text, stopped: live(text, FakeCamera(10), lambda: False))
    report = take_calibration_frames(url, SPEC, count=2, live_seconds=0.01).to_dict()
    assert report["source"] == "rtsp://10.0.0.5:554/live"
    assert "secret" not in str(report)


def test_no_frame_wanted_is_refused():
    with pytest.raises(InputError, match="at least one frame; 0"):
        take_calibration_frames(None, SPEC, count=0, is_demo=True)


def test_a_larger_input_gives_larger_pixels():
    sets = take_calibration_frames(None, replace(SPEC, input_hw=(256, 128)), count=3, is_demo=True)
    assert {frame.pixels.shape for frame in sets.calibrate + sets.gate} == {(1, 256, 128, 3)}


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
