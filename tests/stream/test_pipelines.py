"""GStreamer pipelines: their text, and that they run where an OpenCV with GStreamer is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgedet.errors import UnsupportedError
from edgedet.stream import pipelines
from edgedet.stream.pipelines import file_pipeline, is_gstreamer, require_gstreamer, stream_pipeline

cv2 = pytest.importorskip("cv2", reason="OpenCV runs the pipelines")


def test_rtsp_by_a_jetsons_decoder():
    assert stream_pipeline("rtsp://cam/x", "jetson", "udp", 10.0) == (
        'rtspsrc location="rtsp://cam/x" protocols=udp latency=100 drop-on-latency=true timeout=10000000 '
        "tcp-timeout=10000000 ! decodebin ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! "
        "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def test_a_file_loses_no_frame():
    text = file_pipeline("a.mp4", "gstreamer")
    assert "drop=false" in text
    assert text.startswith('filesrc location="a.mp4" ! decodebin ! videoconvert ! ')


def test_addresses_cannot_end_the_pipelines_quotes():
    assert r'location="rtsp://cam/x\" ! filesink location=\"y"' in stream_pipeline(
        'rtsp://cam/x" ! filesink location="y', "gstreamer", "tcp", 1.0
    )


def test_which_decoders_are_gstreamers():
    assert [is_gstreamer(decoder) for decoder in pipelines.DECODERS] == [False, False, True, True]


def test_an_opencv_without_gstreamer_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    with pytest.raises(UnsupportedError, match="camera csi:0 needs an OpenCV with GStreamer") as raised:
        require_gstreamer("camera csi:0")
    assert "\n" not in str(raised.value)


RUN = """
import json, sys
from contextlib import closing
from itertools import islice
from edgedet.stream.capture import CaptureOptions
from edgedet.stream.sources import SourceOptions, open_source
clip = sys.argv[1]
options = SourceOptions(CaptureOptions(decoder="gstreamer"))
with closing(open_source(clip, lambda: False, options)) as source:
    file_means = [round(float(frame.bgr.mean())) for frame in source]
pipeline = "videotestsrc is-live=true pattern=white ! video/x-raw,width=320,height=240 ! videoconvert ! " \\
    "video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
with closing(open_source(pipeline, lambda: False)) as source:
    live = [(frame.bgr.shape, int(frame.bgr.min())) for frame in islice(source, 3)]
print(json.dumps([file_means, live]))
"""


@pytest.fixture
def python_with_gstreamer():
    """A Python whose OpenCV has GStreamer: this one, or the system's."""
    ask = "import cv2; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)"
    for python in (sys.executable, shutil.which("python3", path=os.defpath)):
        if python and subprocess.run([python, "-c", ask], capture_output=True, check=False).returncode == 0:
            return python
    return pytest.skip("no Python here has an OpenCV with GStreamer (python3-opencv of Debian)")


def test_a_file_and_a_pipeline_run(python_with_gstreamer, tmp_path):
    from media import write_clip

    clip = write_clip(tmp_path / "clip.avi", frames=7)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OPENCV_LOG_LEVEL": "SILENT"}
    done = subprocess.run(
        [python_with_gstreamer, "-c", RUN, str(clip)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    file_means, live = json.loads(done.stdout.splitlines()[-1])
    assert file_means == pytest.approx([0, 10, 20, 30, 40, 50, 60], abs=3)
    assert live == [[[240, 320, 3], 255]] * 3
