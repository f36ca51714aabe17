"""Recordings last as long as what they show, in segments that play, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media import CODEC_ERROR, annotate, frames_of, result

from edgedet.errors import InputError
from edgedet.stream import sinks
from edgedet.stream.recording import recording_sink
from edgedet.stream.segments import Keeper
from edgedet.stream.sinks import lasting
from edgedet.stream.video_file import codec_of, is_whole, recording_suffix, video_file
from edgedet.types import Frame, FrameResult, Gap

cv2 = pytest.importorskip("cv2", reason="OpenCV writes videos")


def shown(level, captured_s, camera="cam", gap=None, size_wh=(256, 192)):
    one = result(level=level, size_wh=size_wh)
    return FrameResult(Frame(one.frame.bgr, captured_s, 0, camera=camera, gap=gap), one.detections)


def record(folder, results, fps=10.0, segment_s=60.0, suffix=".mkv", keeper=None):
    with recording_sink(
        lambda camera: folder / f"{camera}{suffix}", fps, segment_s, keeper or Keeper(), annotate
    ) as write:
        for one in results:
            write(one)


def levels_of(path):
    return [float(frame.mean()) for frame in frames_of(path)[0]]


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_a_recording_keeps_real_time(tmp_path, suffix):
    """At 10 frames a second, captures at 0, 0.3 and 0.5 s fill slots 0, 1 to 3, 4 and 5; one at 0.52 s adds none."""
    results = [shown(level, s) for level, s in ((50, 100.0), (100, 100.3001), (150, 100.5001), (200, 100.52))]
    record(tmp_path, results, suffix=suffix)
    (path,) = tmp_path.iterdir()
    np.testing.assert_allclose(levels_of(path), [50, 100, 100, 100, 150, 150], atol=CODEC_ERROR)
    assert is_whole(path)


def test_a_segment_ends_after_its_time(tmp_path):
    """Ten seconds at one frame a second, four seconds each: 0 to 3, 4 to 7, 8 and 9."""
    record(tmp_path, [shown(10 * n, 100.0 + n) for n in range(10)], fps=1.0, segment_s=4.0)
    lengths = [len(levels_of(path)) for path in sorted(tmp_path.iterdir())]
    assert lengths == [4, 4, 2]


def test_a_gap_begins_a_new_segment(tmp_path):
    """An hour without pictures is no hour of the same picture."""
    gap = Gap("no frame came", 3600.0)
    record(tmp_path, [shown(50, 100.0), shown(60, 100.1), shown(100, 3700.1, gap=gap), shown(110, 3700.2)])
    assert [len(levels_of(path)) for path in sorted(tmp_path.iterdir())] == [2, 2]


def test_another_size_begins_a_new_segment(tmp_path):
    record(tmp_path, [shown(50, 100.0), shown(60, 100.1, size_wh=(128, 96)), shown(70, 100.2, size_wh=(128, 96))])
    assert sorted(frame.shape for path in tmp_path.iterdir() for frame in frames_of(path)[0]) == [
        (96, 128, 3), (96, 128, 3), (192, 256, 3)
    ]  # fmt: skip


def test_each_camera_has_its_own(tmp_path):
    record(
        tmp_path, [shown(level, 100.0 + n / 10, camera) for n in range(3) for camera, level in (("a", 50), ("b", 150))]
    )
    found = {path.name.split("-")[0]: levels_of(path) for path in tmp_path.iterdir()}
    np.testing.assert_allclose(found["a"], [50] * 3, atol=CODEC_ERROR)
    np.testing.assert_allclose(found["b"], [150] * 3, atol=CODEC_ERROR)


def test_the_limit_is_kept_while_recording(tmp_path, monkeypatch):
    """Noise of 640 x 480 takes some 100 KB a frame; 1 MB is kept, the newest."""
    from edgedet.stream import recording

    monkeypatch.setattr(recording, "_PRUNE_EVERY_S", 0.0)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(60)]
    record(tmp_path, results, fps=1.0, segment_s=3.0, keeper=Keeper(1_000_000))
    left = sorted(tmp_path.iterdir())
    assert sum(path.stat().st_size for path in left) <= 1_000_000
    assert len(left) >= 2
    assert len(frames_of(left[-1])[0]) == 3


def test_an_error_elsewhere_keeps_what_was_recorded(tmp_path):
    def records_and_fails():
        with recording_sink(lambda camera: tmp_path / "cam.mp4", 10.0, 60.0, Keeper(), annotate) as write:
            write(shown(50, 100.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        records_and_fails()
    (path,) = tmp_path.iterdir()
    assert len(levels_of(path)) == 1


def test_a_full_disk_keeps_the_segments_so_far(small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(100)]
    with pytest.raises(InputError, match="the disk is full"):
        record(small_disk, results, fps=1.0, segment_s=5.0)
    paths = sorted(small_disk.iterdir())
    assert len(paths) > 2
    assert {len(frames_of(path)[0]) for path in paths[:-1]} == {5}


def test_where_the_disk_is_full_the_oldest_go_if_the_user_gave_a_limit(small_disk):
    from edgedet.stream import recording

    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(60)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "_PRUNE_EVERY_S", 0.0)
        record(small_disk, results, fps=1.0, segment_s=3.0, keeper=Keeper(10**9, reserve_bytes=4_500_000))
    assert len(frames_of(sorted(small_disk.iterdir())[-1])[0]) == 3


def test_going_on_without_a_disk_and_again_with_one(tmp_path, monkeypatch):
    """A file stands where the folder is wanted; when it is gone, the recording begins anew."""
    monkeypatch.setattr(sinks, "_RETRY_S", 0.05)
    (tmp_path / "out").touch()
    lines = []

    def open_sink():
        return recording_sink(lambda camera: tmp_path / "out" / "cam.mkv", 10.0, 60.0, Keeper(), annotate)

    failures = []
    with lasting(open_sink, lines.append, failures) as write:
        write(shown(50, 100.0))
        write(shown(50, 100.1))
        assert len(lines) == 1
        assert lines[0].startswith(f"cannot write {tmp_path}/out/cam-")
        assert lines[0].endswith("; going on without")
        (tmp_path / "out").unlink()
        time.sleep(0.06)
        write(shown(50, 100.2))
        assert lines[1:] == ["writing again; 2 results were not written"]
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert len(failures) == 1


def test_a_browsers_codec_is_taken_where_there_is_one():
    suffix = recording_suffix()
    assert (suffix, codec_of(suffix)) in {(".mp4", "avc1"), (".webm", "VP80"), (".mkv", "mp4v")}
    if codec_of(".webm") == "VP80":  # raises where this OpenCV has none
        assert suffix != ".mkv"


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_matroska_file_that_was_not_closed_is_not_whole(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with video_file(path, 10.0, (256, 192), grows=True) as write:
        write(result().frame.bgr)
        assert path.exists()
    assert is_whole(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7  # the size as it stands while the file grows
    path.write_bytes(data)
    assert not is_whole(path)


KILLED = """
import sys, time
sys.path[:0] = {path!r}
import numpy as np
from pathlib import Path
from edgedet.stream.recording import recording_sink
from edgedet.stream.segments import Keeper
from edgedet.types import Frame, FrameResult
noise = np.random.default_rng(0).integers(0, 256, {size_hw} + (3,), dtype=np.uint8)
base = Path({folder!r}) / "cam{suffix}"
with recording_sink(lambda camera: base, 2.0, 8.0, Keeper(), lambda one: one.frame.bgr) as write:
    for n in range(47):
        write(FrameResult(Frame(noise, 100.0 + n / 2, 0, camera="cam"), None))
    print("recording", flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_killed_in_the_middle_all_but_the_open_segment_plays(tmp_path, suffix):
    """Three segments of 8 s; kill -9 leaves two that play, and of the third what was on the disk.

    FFmpeg writes Matroska by 5 s and 256 KB, so the larger pictures are there.
    """
    size_hw = (480, 640) if suffix == ".mkv" else (96, 128)
    code = KILLED.format(path=sys.path, folder=str(tmp_path), suffix=suffix, size_hw=size_hw)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "recording\n"
        os.kill(process.pid, signal.SIGKILL)
    closed = sorted(path for path in tmp_path.iterdir() if not path.name.startswith(".") and is_whole(path))
    assert [len(frames_of(path)[0]) for path in closed] == [16, 16]
    rest = [path for path in tmp_path.iterdir() if path not in closed]
    assert len(rest) == 1
    if suffix == ".mkv":
        assert len(frames_of(rest[0])[0]) >= 1
    with recording_sink(lambda camera: Path(tmp_path) / f"cam{suffix}", 10.0, 1.0, Keeper(), annotate) as write:
        write(shown(50, 200.0))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # the next run tidies up
