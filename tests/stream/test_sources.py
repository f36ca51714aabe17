"""Every kind of source gives its frames, and says in one line what is wrong."""

from __future__ import annotations

import re
from contextlib import closing

import numpy as np
import pytest
from media import FPS, picture, write_clip

from edgedet.errors import EdgeDetError, SourceError
from edgedet.stream.file_sources import ImageSource, VideoSource
from edgedet.stream.images import is_cut_off, read_image
from edgedet.stream.sources import open_source

cv2 = pytest.importorskip("cv2", reason="sources are read by OpenCV")


def opened(text):
    return open_source(str(text), stopped=lambda: False)


def write_image(path, level=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(level))
    return path


# --- images -----------------------------------------------------------------------------------------------------


def test_one_image(tmp_path):
    path = write_image(tmp_path / "a.png")
    (frame,) = opened(path)
    assert (frame.name, frame.index, frame.captured_s) == (str(path), 0, 0.0)
    np.testing.assert_array_equal(frame.bgr, picture(50))


def test_a_folder_gives_its_images_by_name(tmp_path):
    for name, level in (("b.jpg", 60), ("a.png", 50), ("c.BMP", 70)):
        write_image(tmp_path / name, level)
    (tmp_path / "notes.txt").write_text("no image")
    source = opened(tmp_path)
    assert source.total == 3
    assert not source.live
    assert [(frame.index, frame.name, int(frame.bgr[0, 0, 0])) for frame in source] == [
        (0, str(tmp_path / "a.png"), 50),
        (1, str(tmp_path / "b.jpg"), 60),
        (2, str(tmp_path / "c.BMP"), 70),
    ]
    assert source.failures == []


def test_a_pattern_gives_its_images(tmp_path):
    for name in ("x/1.png", "y/1.png", "y/2.jpg"):
        write_image(tmp_path / name)
    source = opened(tmp_path / "*" / "*.png")
    assert [frame.name for frame in source] == [str(tmp_path / "x/1.png"), str(tmp_path / "y/1.png")]
    assert source.root == tmp_path


def test_damaged_images_are_named_and_the_rest_is_read(tmp_path):
    write_image(tmp_path / "good.png")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    source = opened(tmp_path)
    assert [frame.name for frame in source] == [str(tmp_path / "good.png")]
    assert source.failures == [
        f"{tmp_path}/empty.jpg is empty (0 bytes).",
        f"{tmp_path}/text.png is damaged or no image.",
    ]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_image_is_refused(tmp_path, suffix, share):
    """OpenCV 4 fills the rest of a cut JPEG with grey and calls it good."""
    path = tmp_path / f"noise{suffix}"
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))
    assert read_image(path).shape == (96, 128, 3)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match="damaged"):
        read_image(path)


def with_exif(jpeg, payload):
    """Put an EXIF segment with ``payload`` behind the JPEG's start marker."""
    body = b"Exif\0\0" + payload
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def test_a_cut_jpeg_with_a_whole_preview_is_refused(tmp_path):
    _, encoded = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))
    whole = with_exif(encoded.tobytes(), b"preview \xff\xd8 ... \xff\xd9")
    path = tmp_path / "photo.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (96, 128, 3)
    path.write_bytes(whole[:-500])
    with pytest.raises(SourceError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cut_bytes_are_told_before_decoding(suffix):
    """At any length, so that no decoder writes lines of its own or fills in."""
    _, encoded = cv2.imencode(suffix, np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    data = encoded.tobytes()
    if suffix == ".jpg":
        data = with_exif(data, b"preview \xff\xd8 ... \xff\xd9")
    assert not is_cut_off(data)
    assert not is_cut_off(data + b"what phones append")
    assert all(is_cut_off(data[:length]) for length in range(8, len(data) - 8))


def test_exif_turns_a_photo_upright(tmp_path):
    """Orientation 6: the stored right side is the top, so 96 x 128 stored is 128 x 96 seen."""
    _, encoded = cv2.imencode(".jpg", picture(50, (128, 96)))
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    path = tmp_path / "photo.jpg"
    path.write_bytes(with_exif(encoded.tobytes(), tiff))
    assert read_image(path).shape == (128, 96, 3)


def test_a_grey_or_transparent_image_becomes_bgr(tmp_path):
    for name, pixels in (
        ("grey.png", picture(9)[:, :, 0]),
        ("alpha.png", np.dstack([picture(9), picture(1)[:, :, 0]])),
    ):
        assert cv2.imwrite(str(tmp_path / name), pixels)
        np.testing.assert_array_equal(read_image(tmp_path / name), picture(9))


# --- what there is not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("missing.mp4", "there is no .*missing.mp4: wanted an image, a folder, a video, a camera's number or a URL"),
        ("bare", "no images in folder .*bare: wanted files ending in .jpg"),
        ("bare/*.jpg", "no images in pattern .*: wanted files ending in .jpg"),
        ("bare/*", "no images in pattern"),
        ("empty.avi", "empty.avi is empty"),
        ("junk.mp4", "junk.mp4 is damaged or no video"),
        ("bare/notes.txt", "notes.txt is damaged or no video"),
        ("x" * 300, "there is no xxx"),
        ("999", "camera 999 cannot be opened"),
        ("/dev/null", "camera /dev/null cannot be opened"),
        ("http://127.0.0.1:9/stream", "http://127.0.0.1:9/stream cannot be opened"),
        ("rtsp://127.0.0.1:9/stream", "rtsp://127.0.0.1:9/stream cannot be opened"),
        ("http://u:s3cret@127.0.0.1:9/clip.mp4", "^http://127.0.0.1:9/clip.mp4 cannot be opened"),
        ("http://[bad/stream", "http://... cannot be opened"),
        ("csi:0", "csi:0 is a camera on the connector of"),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path, monkeypatch, name, complaint):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").write_text("no image")
    (tmp_path / "empty.avi").touch()
    (tmp_path / "junk.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgeDetError, match=complaint) as raised, closing(opened(name)) as source:
        list(source)  # cameras are opened by then
    assert "\n" not in str(raised.value)


# --- videos -----------------------------------------------------------------------------------------------------


def test_a_video_gives_every_frame_with_its_media_time(tmp_path):
    source = opened(write_clip(tmp_path / "clip.avi", frames=5))
    assert isinstance(source, VideoSource)
    assert (source.fps, source.total, source.live) == (FPS, 5, False)
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([frame.captured_s for frame in frames], [0.0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose([frame.bgr.mean() for frame in frames], [0, 10, 20, 30, 40], atol=2)
    assert source.failures == []
    source.close()


def test_a_cut_video_is_read_to_its_end_and_named(tmp_path):
    path = write_clip(tmp_path / "clip.avi", frames=40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = opened(path)
    frames = list(source)
    assert 10 < len(frames) < 30
    assert re.fullmatch(rf"{path} is cut or damaged: {len(frames)} of 40 frames can be read.", source.failures[0])


def test_stopping_early_is_no_failure(tmp_path):
    source = opened(write_clip(tmp_path / "clip.avi", frames=5))
    next(iter(source))
    source.close()
    assert source.failures == []


def test_images_keep_no_camera_open(tmp_path):
    source = opened(write_image(tmp_path / "a.png"))
    assert isinstance(source, ImageSource)
    source.close()
    assert [frame.index for frame in source] == [0]


def test_a_tiff_of_several_pages_is_told_and_its_first_page_read(tmp_path):
    assert cv2.imwritemulti(str(tmp_path / "scan.tif"), [picture(10), picture(20), picture(30)])
    assert cv2.imwrite(str(tmp_path / "single.tif"), picture(40))
    said = []
    frames = list(open_source(str(tmp_path), lambda: False, say=said.append))
    assert [float(frame.bgr.mean()) for frame in frames] == [10, 40]
    assert said == [f"{tmp_path / 'scan.tif'} has 3 pages; only the first one is read"]
