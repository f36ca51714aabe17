"""What is left of recordings by a limit, a full disk or a process that is killed: segments that play."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from media import CODEC_ERROR, annotate, frames_of, result
from recordings import levels_of, record, shown
from waiting import LAST_RESORT_S

from edgedet.errors import InputError
from edgedet.stream.outputs import recording, sinks
from edgedet.stream.outputs import video_file as video_file_module
from edgedet.stream.outputs.fragments import can_write_fragments
from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.stream.outputs.sinks import keep_trying
from edgedet.stream.outputs.video_file import choose_codec, choose_recording_suffix, is_whole, open_video_file
from edgedet.types import Frame, FrameResult

pytest.importorskip("cv2", reason="OpenCV writes videos")
pytestmark = pytest.mark.usefixtures("patient")


def test_the_limit_is_kept_while_recording(tmp_path, monkeypatch):
    """Noise of 640 x 480 takes some 100 KB a frame; 1 MB is kept, the newest."""
    monkeypatch.setattr(recording, "_PRUNE_EVERY_S", 0.0)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(60)]
    record(tmp_path, results, fps=1.0, segment_s=3.0, keeper=Keeper(1_000_000))
    left = sorted(tmp_path.iterdir())
    assert sum(path.stat().st_size for path in left) <= 1_000_000
    assert len(left) >= 2
    assert len(frames_of(left[-1])[0]) == 3


def test_a_full_disk_keeps_the_segments_so_far(small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(100)]
    with pytest.raises(InputError, match="the disk is full"):
        record(small_disk, results, fps=1.0, segment_s=5.0)
    paths = sorted(small_disk.iterdir())
    assert len(paths) > 2
    assert {len(frames_of(path)[0]) for path in paths[:-1]} == {5}


def test_where_the_disk_is_full_the_oldest_go_if_the_user_gave_a_limit(small_disk):
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
        return recording_sink(lambda camera: tmp_path / "out" / "cam.mkv", lambda: 10.0, 60.0, Keeper(), annotate)

    failures = []
    with keep_trying(open_sink, lines.append, failures) as write:
        write(shown(50, 100.0))
        write(shown(50, 100.1))
        assert len(lines) == 1
        assert lines[0].startswith(f"cannot write {tmp_path}/out/cam.mkv")
        assert lines[0].endswith("; going on without")
        (tmp_path / "out").unlink()
        time.sleep(0.06)
        write(shown(50, 100.2))
        assert lines[1:] == ["writing again; 2 results were not written"]
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert len(failures) == 1


def test_a_folder_gets_the_recordings_that_cost_least(monkeypatch):
    """MP4 by PyAV, which browsers play, where it is installed; else what takes a tenth of VP8's time."""
    assert choose_recording_suffix() == (".mp4" if can_write_fragments() else ".mkv")
    choose_recording_suffix.cache_clear()
    monkeypatch.setattr(video_file_module, "can_write_fragments", lambda: False)
    assert choose_recording_suffix() == ".mkv"
    choose_recording_suffix.cache_clear()
    assert choose_codec(".mkv") == "mp4v"


@pytest.mark.skipif(not can_write_fragments(), reason="needs PyAV with an H.264 encoder (edgedet[record])")
@pytest.mark.parametrize("size_wh", [(256, 192), (255, 193)])
def test_an_mp4_file_plays_while_it_grows(tmp_path, size_wh):
    """At 10 pictures a second, what is older than a second can be played; an odd last row or column is cut off."""
    path = tmp_path / "out.mp4"
    with open_video_file(path, 10.0, size_wh, grows=True) as write:
        for n in range(25):
            write(result(level=5 * n, size_wh=size_wh).frame.bgr)
        playable = levels_of(path)
    np.testing.assert_allclose(playable, [5 * n for n in range(20)], atol=CODEC_ERROR)
    np.testing.assert_allclose(levels_of(path), [5 * n for n in range(25)], atol=CODEC_ERROR)
    assert is_whole(path)
    assert frames_of(path)[1] == 10.0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_full_disk_leaves_no_file_without_a_picture(tmp_path, monkeypatch, suffix):
    """With --on-write-error go-on it is tried every ten seconds; a day of that would be 8,640 files."""
    if suffix == ".mp4":
        pytest.importorskip("av", reason="an .mp4 grows under its name where PyAV is")
    monkeypatch.setattr(video_file_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    opened = open_video_file(tmp_path / f"a{suffix}", 10.0, (64, 48), True)
    with pytest.raises(InputError, match="the disk is full"), opened:
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_matroska_file_that_was_not_closed_is_not_whole(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with open_video_file(path, 10.0, (256, 192), grows=True) as write:
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
from edgedet.stream.outputs import recording
from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.types import Frame, FrameResult
recording._LONGEST_LAG_S = {patience_s}  # no frame is left out, however busy the machine is
noise = np.random.default_rng(0).integers(0, 256, {size_hw} + (3,), dtype=np.uint8)
base = Path({folder!r}) / "cam{suffix}"
drawn = 0
def annotate(one):
    global drawn
    drawn += 1
    return one.frame.bgr
with recording_sink(lambda camera: base, lambda: 2.0, 8.0, Keeper(), annotate) as write:
    for n in range(47):
        write(FrameResult(Frame(noise, 100.0 + n / 2, 0, camera="cam"), None))
        while drawn < n:
            time.sleep(0.001)
    while drawn < 47:
        time.sleep(0.001)
    time.sleep(0.3)  # for the last one to be encoded
    print("recording", flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_killed_in_the_middle_all_but_the_open_segment_plays(tmp_path, suffix):
    """Three segments of 8 s at 2 a second; kill -9 leaves two that play, and of the third what was on the disk.

    FFmpeg writes Matroska by 5 s and 256 KB, so the larger pictures are there. MP4 by PyAV loses the last second.
    """
    size_hw = (480, 640) if suffix == ".mkv" else (96, 128)
    code = KILLED.format(path=sys.path, folder=str(tmp_path), suffix=suffix, size_hw=size_hw, patience_s=LAST_RESORT_S)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "recording\n"
        os.kill(process.pid, signal.SIGKILL)
    closed = sorted(path for path in tmp_path.iterdir() if not path.name.startswith(".") and is_whole(path))
    if suffix == ".mp4" and can_write_fragments():
        last = closed.pop()  # it ends with a whole fragment
        assert len(frames_of(last)[0]) >= 15 - 3  # of 15: one fragment of two, and one that may be in hand
    assert [len(frames_of(path)[0]) for path in closed] == [16, 16]
    rest = [path for path in tmp_path.iterdir() if path not in closed]
    assert len(rest) == 1
    if suffix == ".mkv":
        assert len(frames_of(rest[0])[0]) >= 1
    with recording_sink(lambda camera: Path(tmp_path) / f"cam{suffix}", lambda: 10.0, 1.0, Keeper(), annotate) as write:
        write(shown(50, 200.0))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # the next run tidies up
