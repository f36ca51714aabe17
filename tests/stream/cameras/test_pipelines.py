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
from edgedet.stream.cameras import pipelines
from edgedet.stream.cameras.pipelines import (
    is_gstreamer,
    make_csi_pipeline,
    make_file_pipeline,
    make_stream_pipeline,
    require_gstreamer,
)

cv2 = pytest.importorskip("cv2", reason="OpenCV runs the pipelines")


def test_rtsp_by_a_jetsons_decoder():
    assert make_stream_pipeline("rtsp://cam/x", "jetson", "udp", 10.0) == (
        'rtspsrc location="rtsp://cam/x" protocols=udp latency=100 drop-on-latency=true timeout=10000000 '
        "tcp-timeout=10000000 ! decodebin ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! "
        "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


# What the elements' documents name: formats of the pad behind nvvidconv in ordinary memory (NVIDIA, Accelerated
# GStreamer, "Video Format Conversion with GStreamer-1.0"), and the one that OpenCV's appsink takes as three channels.
CAPS = {
    "nvvidconv": {"I420", "UYVY", "YUY2", "YVYU", "NV12", "GRAY8", "BGRx", "RGBA"},
    "videoconvert": {"BGR"},
}


def parsed(pipeline: str) -> list[tuple[str, dict[str, str]]]:
    """Return (element, the caps that follow it) of a pipeline of elements and caps, as gst-launch splits it."""
    found: list[tuple[str, dict[str, str]]] = []
    for part in pipeline.split(" ! "):
        if part.startswith("video/x-raw"):
            media, *fields = part.split(",")
            assert not found[-1][1]  # one filter an element
            found[-1][1].update(media=media, **dict(field.split("=") for field in fields))
        else:
            found.append((part.split()[0], {}))
    return found


@pytest.mark.parametrize("scaled_wh", [None, (512, 288)])
@pytest.mark.parametrize(
    "make",
    [
        lambda wh: make_csi_pipeline(0, (1920, 1080), 30.0, wh),
        lambda wh: make_stream_pipeline("rtsp://cam/x", "jetson", "tcp", 10.0, wh),
        lambda wh: make_file_pipeline("a.mp4", "jetson", wh),
        lambda wh: make_file_pipeline("a.mp4", "gstreamer", wh),
    ],
    ids=["csi", "rtsp", "file", "gstreamer"],
)
def test_pictures_are_scaled_before_the_cpu_converts_them(make, scaled_wh):
    """By the element that fetches them from the decoder; every filter names what its element can give."""
    elements = parsed(make(scaled_wh))
    names = [name for name, _ in elements]
    assert names[-2:] == ["videoconvert", "appsink"]
    for name, caps in elements:
        assert caps.get("format") is None or caps["format"] in CAPS.get(name, {"NV12"})
    sizes = {name: (caps["width"], caps["height"]) for name, caps in elements if "width" in caps}
    sizes.pop("nvarguscamerasrc", None)  # the sensor's mode stays as it was asked for
    scaler = "nvvidconv" if "nvvidconv" in names else "videoscale"
    assert sizes == ({} if scaled_wh is None else {scaler: ("512", "288")})


def test_a_file_loses_no_frame():
    text = make_file_pipeline("a.mp4", "gstreamer")
    assert "drop=false" in text
    assert text.startswith('filesrc location="a.mp4" ! decodebin ! videoconvert ! ')


def test_addresses_cannot_end_the_pipelines_quotes():
    assert r'location="rtsp://cam/x\" ! filesink location=\"y"' in make_stream_pipeline(
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
from edgedet.stream.cameras.capture import CaptureOptions
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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3]), "OPENCV_LOG_LEVEL": "SILENT"}
    done = subprocess.run(
        [python_with_gstreamer, "-c", RUN, str(clip)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    file_means, live = json.loads(done.stdout.splitlines()[-1])
    assert file_means == pytest.approx([0, 10, 20, 30, 40, 50, 60], abs=3)
    assert live == [[[240, 320, 3], 255]] * 3
