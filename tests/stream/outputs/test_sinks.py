"""What is written is whole: videos play, JSON lines parse, and a full disk leaves no half file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from media import CODEC_ERROR, FPS, SMALL_DISK_BYTES, annotate, frames_of, result
from waiting import wait_until

from edgedet.errors import EdgeDetError, InputError, UnsupportedError
from edgedet.stream.outputs import jsonl
from edgedet.stream.outputs.jsonl import jsonl_sink
from edgedet.stream.outputs.sinks import image_sink, video_sink, window_sink
from edgedet.stream.outputs.video_file import is_whole
from edgedet.stream.stop import Stop
from edgedet.types import Frame, FrameResult

cv2 = pytest.importorskip("cv2", reason="OpenCV writes videos and images")


# --- videos -----------------------------------------------------------------------------------------------------


def test_a_video_has_the_sources_frames_and_rate(tmp_path):
    path = tmp_path / "new" / "out.mp4"
    with video_sink(path, FPS, annotate) as write:
        for index in range(7):
            write(result(index, index / FPS, level=20 * index))
            assert not path.exists()  # not under its name before it plays
    frames, fps = frames_of(path)
    assert fps == FPS
    np.testing.assert_allclose([frame.mean() for frame in frames], [20 * index for index in range(7)], atol=CODEC_ERROR)
    assert list(path.parent.iterdir()) == [path]


def test_a_video_of_odd_size_plays(tmp_path):
    path = tmp_path / "out.mp4"
    with video_sink(path, FPS, annotate) as write:
        write(result(size_wh=(101, 75)))
    assert frames_of(path)[0][0].mean() == pytest.approx(100, abs=CODEC_ERROR)


def test_a_stream_that_changes_its_size_keeps_the_first(tmp_path):
    path = tmp_path / "out.mp4"
    with video_sink(path, FPS, annotate) as write:
        write(result(size_wh=(256, 192)))
        write(result(size_wh=(128, 96)))
    assert [frame.shape for frame in frames_of(path)[0]] == [(192, 256, 3)] * 2


def test_an_error_leaves_no_video(tmp_path):
    with suppress(RuntimeError), video_sink(tmp_path / "out.mp4", FPS, annotate) as write:
        write(result())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_no_frame_makes_no_video(tmp_path):
    with video_sink(tmp_path / "out.mp4", FPS, annotate):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_a_video_in_one_line(small_disk):
    """Noise of 640 x 480 takes some 100 KB a frame, so the 4 MB that may be used are soon gone."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    frame = FrameResult(Frame(noise, 0.0, 0), result().detections)

    def record():
        with video_sink(small_disk / "out.mp4", FPS, annotate) as write:
            for _ in range(1000):
                write(frame)

    with pytest.raises(InputError, match=r"out.mp4: the disk is full \(.* MB free"):
        record()
    assert list(small_disk.iterdir()) == []


def test_a_video_cut_by_a_size_limit_is_noticed(tmp_path):
    """OpenCV's writer says nothing of failed writes. A limit on file sizes fails them like a quota does."""
    code = f"""
import resource, sys
import numpy as np
from edgedet.errors import InputError
from edgedet.stream.outputs.video_file import open_video_file
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
try:
    with open_video_file({str(tmp_path / "out.mp4")!r}, 10.0, (640, 480)) as write:
        for _ in range(30):
            write(noise)
except InputError as error:
    sys.exit(f"refused: {{error}}")
"""
    code = code.replace("with open_video_file(", "with open_video_file(__import__('pathlib').Path(").replace(
        ".mp4'", ".mp4')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "refused: cannot write" in done.stderr
    assert "is cut" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 100, 3000])
def test_a_cut_mp4_is_not_whole(tmp_path, cut):
    path = tmp_path / "out.mp4"
    with video_sink(path, FPS, annotate) as write:
        for index in range(5):
            write(result(index))
    assert is_whole(path)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    assert not is_whole(path)
    path.write_bytes(b"")
    assert not is_whole(path)


# --- images -----------------------------------------------------------------------------------------------------


def test_images_keep_their_names_and_formats(tmp_path):
    with image_sink(lambda name: tmp_path / "new" / name, annotate) as write:
        write(result(name="a.png", level=10))
        write(result(name="sub/b.jpg", level=20))
    assert cv2.imread(str(tmp_path / "new/a.png")).mean() == 10
    assert cv2.imread(str(tmp_path / "new/sub/b.jpg")).mean() == pytest.approx(20, abs=1)
    assert (tmp_path / "new/sub/b.jpg").read_bytes()[:2] == b"\xff\xd8"


# --- JSON lines -------------------------------------------------------------------------------------------------


def test_a_line_a_frame(tmp_path):
    path = tmp_path / "new" / "out.jsonl"
    with jsonl_sink(path, ["person", "car"], live=False) as write:
        write(result(0, 0.0))
        first = json.loads(path.read_text())  # there as soon as the frame is
        write(result(1, 0.1, name="b.png"))
    assert first == {
        "frame": 0,
        "time_s": 0.0,
        "detections": [{"class": "car", "class_id": 1, "score": 0.8765, "box_xyxy": [1.25, 2.5, 30.0, 40.13]}],
        "timings_ms": {"preprocess": 0.1, "network": 20.123, "postprocess": 0.2},
    }
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == first
    assert (lines[1]["frame"], lines[1]["time_s"], lines[1]["image"]) == (1, 0.1, "b.png")


def test_live_times_count_from_the_first_frame(tmp_path):
    with jsonl_sink(tmp_path / "out.jsonl", ["person", "car"], live=True) as write:
        for captured_s in (5000.0, 5000.25):
            write(result(captured_s=captured_s))
    assert [json.loads(line)["time_s"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [0.0, 0.25]


def test_an_older_file_is_replaced(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old\n" * 100)
    with jsonl_sink(path, ["person", "car"], live=False) as write:
        write(result())
    assert len(path.read_text().splitlines()) == 1


def test_a_full_disk_leaves_whole_lines(small_disk):
    (small_disk / "filler").write_bytes(bytes(SMALL_DISK_BYTES - 100_000))
    path = small_disk / "out.jsonl"

    def record():
        with jsonl_sink(path, ["person", "car"], live=False) as write:
            for index in range(10_000):
                write(result(index))

    with pytest.raises(InputError, match=f"cannot write {path}: No space left on device"):
        record()
    text = path.read_text()
    assert text.endswith("}\n")
    lines = [json.loads(line)["frame"] for line in text.splitlines()]
    assert lines == list(range(len(lines)))


@pytest.mark.parametrize("sink", ["video", "images", "jsonl"])
def test_a_folder_that_cannot_be_is_one_line(tmp_path, sink):
    """A file where a folder is wanted; permissions do not stop root, this does."""
    (tmp_path / "file").touch()
    name = tmp_path / "file" / "out"
    opened = {
        "video": lambda: video_sink(name.with_suffix(".mp4"), FPS, annotate),
        "images": lambda: image_sink(lambda _: name.with_suffix(".png"), annotate),
        "jsonl": lambda: jsonl_sink(name.with_suffix(".jsonl"), ["person", "car"], False),
    }[sink]
    with pytest.raises(EdgeDetError, match=f"cannot write {name}") as raised, opened() as write:
        write(result())
    assert "\n" not in str(raised.value)


def test_a_read_only_folder_is_one_line(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(InputError, match="Permission denied"),
            video_sink(tmp_path / "out.mp4", FPS, annotate) as write,
        ):
            write(result())
    finally:
        tmp_path.chmod(0o700)


# --- windows ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are named by DISPLAY on Linux")
def test_a_window_without_a_screen_is_refused(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UnsupportedError, match="--show needs a screen"), window_sink(annotate, False, Stop()):
        pass


def test_a_cameras_lines_are_brought_to_the_disk_soon_and_at_the_end(tmp_path, monkeypatch):
    """A power cut costs a second of lines, not what the system holds back for half a minute."""
    synced = []
    monkeypatch.setattr(jsonl, "sync_to_disk", synced.append)
    path = tmp_path / "out.jsonl"
    with jsonl_sink(path, ("a", "b"), live=True) as write:
        write(result())
        wait_until(lambda: synced)
        write(result())
    assert len(synced) >= 2
    assert set(synced) == {path}
