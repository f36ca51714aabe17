"""Sources are named in public without what may be secret, and so that one can tell them apart."""

from __future__ import annotations

import pytest

from edgedet.stream.cameras.address import is_pipeline, is_url, make_file_stem, make_public_name, split_camera


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtsp://admin:s3cret@10.0.0.7:554/live", "rtsp://10.0.0.7:554/live"),
        ("rtsp://s3cret@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://admin:s3@cret@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("http://cam/video?user=admin&pwd=s3cret", "http://cam/video?user=...&pwd=..."),
        ("http://cam/video?s3cret", "http://cam/video?s3cret=..."),
        ("rtsp://nvr/realmonitor?channel=2&subtype=1", "rtsp://nvr/realmonitor?channel=2&subtype=1"),
        ("rtsp://nvr/realmonitor?channel=0123456789abcdef", "rtsp://nvr/realmonitor?channel=..."),
        ("http://[bad/video?pwd=s3cret", "http://..."),
        ("rtsp://[::1]:8554/a#s3cret", "rtsp://[::1]:8554/a"),
        ("rtspsrc location=rtsp://a:s3cret@cam/x ! decodebin ! appsink", "pipeline rtspsrc ! decodebin ! appsink"),
        ("clip.mp4", "clip.mp4"),
        ("0", "0"),
    ],
)
def test_the_public_name(text, name):
    assert make_public_name(text) == name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("door=rtsp://a:b@cam/x?y=z", ("door", "rtsp://a:b@cam/x?y=z")),
        ("back.yard-2=0", ("back.yard-2", "0")),
        ("rtsp://a:b@cam/x?y=z", (None, "rtsp://a:b@cam/x?y=z")),
        ("videotestsrc pattern=ball ! appsink", (None, "videotestsrc pattern=ball ! appsink")),
        ("door=videotestsrc pattern=ball ! appsink", ("door", "videotestsrc pattern=ball ! appsink")),
        ("/dev/v4l/by-id/usb-x=y", (None, "/dev/v4l/by-id/usb-x=y")),
        ("0", (None, "0")),
    ],
)
def test_a_camera_may_have_a_name(text, parts):
    assert split_camera(text) == parts


def test_kinds_of_text():
    assert is_url("http://cam/x")
    assert not is_url("clip.mp4")
    assert not is_url("rtspsrc location=rtsp://cam/x ! appsink")
    assert is_pipeline("videotestsrc ! appsink")
    assert not is_pipeline("wow!.mp4")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("camera 0", "camera-0"),
        ("rtsp://10.0.0.7:554/live", "rtsp-10.0.0.7-554-live"),
        ("../..", "camera"),
        ("door", "door"),
        ("дверь", "дверь"),  # as two cameras with such names need files of their own
        ("front_door", "front_door"),
    ],
)
def test_a_name_becomes_part_of_a_files_name(name, stem):
    assert make_file_stem(name) == stem
