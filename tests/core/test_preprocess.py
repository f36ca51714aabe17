"""Pictures land in the top-left of the model's input, and only the rest is painted."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest

from edgedet.errors import ShapeError
from edgedet.preprocess import Preprocessor, fit
from edgedet.specs import SPECS, resized

cv2 = pytest.importorskip("cv2", reason="pictures are resized by OpenCV")

D0 = SPECS["tf_efficientdet_d0"]
FILL_BGR = [104, 116, 124]


@pytest.fixture
def street():
    """A landscape picture of random pixels, 480 x 640."""
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def exact_resize(bgr: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    return cv2.resize(bgr, size_wh, interpolation=cv2.INTER_LINEAR_EXACT)


def test_resized_pixels_are_bilinear_to_half_a_level(street):
    """Against float64: pixel (y, x) is read at ((y + 0.5) x 480 / 384 - 0.5, (x + 0.5) x 640 / 512 - 0.5)."""
    at_y, at_x = ((np.arange(n) + 0.5) * 1.25 - 0.5 for n in (384, 512))
    y, x = at_y.astype(int), at_x.astype(int)
    dy, dx = (at_y - y)[:, None, None], (at_x - x)[None, :, None]
    real = street.astype(np.float64)
    rows = real[y] * (1 - dy) + real[np.minimum(y + 1, 479)] * dy
    expected = rows[:, x] * (1 - dx) + rows[:, np.minimum(x + 1, 639)] * dx
    assert np.abs(Preprocessor(D0)(street).pixels[0, :384] - expected).max() <= 0.5


def test_resized_pixels_are_the_same_bytes_on_every_cpu(street):
    """The hash was the same on x86-64 and on aarch64 (scripts/check_aarch64.py compares whole frames)."""
    assert hashlib.sha256(Preprocessor(D0)(street).pixels.tobytes()).hexdigest()[:16] == "5c1a44e73424925f"


def test_landscape_is_scaled_by_its_width(street):
    """640 -> 512 is a factor of 0.8, so 480 rows become 384 and 128 are left to the fill."""
    found = Preprocessor(D0)(street)
    assert found.pixels.shape == (1, 512, 512, 3)
    assert found.scale_to_source == 1.25
    assert found.source_hw == (480, 640)
    expected = exact_resize(street, (512, 384))
    np.testing.assert_array_equal(found.pixels[0, :384], expected)
    assert (found.pixels[0, 384:] == FILL_BGR).all()


def test_portrait_leaves_the_right_side(street):
    """Rows of the picture's corner are not contiguous in the buffer; they are written all the same."""
    portrait = np.ascontiguousarray(street.transpose(1, 0, 2))
    found = Preprocessor(D0)(portrait)
    np.testing.assert_array_equal(found.pixels[0, :, :384], exact_resize(portrait, (384, 512)))
    assert (found.pixels[0, :, 384:] == FILL_BGR).all()


def test_sizes_are_cut_off_not_rounded():
    """100 x 333 into 512: 512 / 333 = 1.5375, and 153.75 rows become 153."""
    assert fit((100, 333), (512, 512)) == (333 / 512, (153, 512))


@pytest.mark.parametrize(
    ("family", "source_hw", "side", "expected_hw"),
    [
        ("effdet", (720, 1280), 448, (251, 448)),  # 720 x (448 / 1280) is a hair below 252 in double precision
        ("automl", (720, 1280), 448, (252, 448)),  # and 252 in single precision
        ("zylo117", (720, 1280), 448, (251, 448)),
        ("effdet", (512, 1549), 512, (169, 511)),  # the side that decides loses a pixel, too
        ("automl", (512, 1549), 512, (169, 512)),
        ("zylo117", (512, 1549), 512, (169, 512)),
        ("zylo117", (1549, 512), 512, (512, 169)),
        ("zylo117", (500, 500), 512, (512, 512)),
    ],
)
def test_each_code_base_cuts_off_its_own_way(family, source_hw, side, expected_hw):
    """By the code bases themselves: TensorFlow's DetectionInputProcessor, effdet's ResizePad, zylo117's own."""
    assert fit(source_hw, (side, side), family)[1] == expected_hw


def test_zylo117_scales_each_axis_back_by_its_own_factor():
    """251 rows stand for 720, so the last row is 720 / 251 x 251 = 720, not 1280 / 448 x 251 = 717."""
    (across, down), _ = fit((720, 1280), (448, 448), "zylo117")
    assert (across, down) == (1280 / 448, 720 / 251)
    assert fit((720, 1280), (448, 448))[0] == pytest.approx(1280 / 448)


def test_a_large_picture_is_averaged_not_sampled():
    """Columns of 0 and 255 by turns, four times the model's width: bilinear alone would see 2 of 4 and alias."""
    stripes = np.zeros((2048, 2048, 3), np.uint8)
    stripes[:, ::4] = 255  # a quarter is white: the mean is 64
    pixels = Preprocessor(D0)(stripes).pixels[0]
    assert (pixels == 64).all()
    alone = cv2.resize(stripes, (512, 512), interpolation=cv2.INTER_LINEAR_EXACT)
    assert (alone == 0).all()  # what it was before


def test_shrinking_by_halves_is_the_mean_of_two_by_two_then_bilinear(street):
    """480 x 640 into 192 x 256 is a factor of 2.5: one halving, then 1.25. Means are rounded up at one half."""
    found = Preprocessor(resized(D0, (192, 256)))(street).pixels[0]
    sums = street.reshape(240, 2, 320, 2, 3).sum((1, 3), dtype=np.uint16)
    halved = ((sums + 2) >> 2).astype(np.uint8)
    np.testing.assert_array_equal(found, exact_resize(halved, (256, 192)))


def test_a_factor_below_two_is_bilinear_as_before(street):
    found = Preprocessor(resized(D0, (241, 322)))(street).pixels[0]
    np.testing.assert_array_equal(found[:241, :321], exact_resize(street, (321, 241)))


def test_odd_sides_lose_less_than_a_pixel():
    """A ramp of 1001 columns into 250: where a value lies is off by less than one column of the source."""
    ramp = np.repeat(np.linspace(0, 250, 1001)[None, :, None], 1001, 0).repeat(3, 2).astype(np.uint8)
    row = Preprocessor(resized(D0, (250, 250)))(ramp).pixels[0, 100, :, 0].astype(float)
    centres = (np.arange(250) + 0.5) * 1001 / 250 - 0.5
    assert np.abs(row - centres * 250 / 1000).max() < 1.3  # 0.25 levels a column; the ramp is cut to whole levels


def test_halved_pixels_are_the_same_bytes_on_every_cpu():
    """The hash was the same on x86-64 and on aarch64, as above."""
    picture = np.random.default_rng(3).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    assert hashlib.sha256(Preprocessor(D0)(picture).pixels.tobytes()).hexdigest()[:16] == "b184756d2441ccd8"


def test_a_strip_keeps_at_least_one_row():
    assert fit((1, 5000), (512, 512))[1] == (1, 512)
    found = Preprocessor(D0)(np.full((1, 5000, 3), 200, np.uint8))
    assert (found.pixels[0, 0] == 200).all()
    assert (found.pixels[0, 1:] == FILL_BGR).all()


def test_a_picture_of_the_right_size_is_taken_as_it_is():
    picture = np.random.default_rng(1).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    found = Preprocessor(D0)(picture)
    np.testing.assert_array_equal(found.pixels[0], picture)
    assert found.scale_to_source == 1.0


def test_no_pixel_of_an_earlier_picture_is_left(street):
    """Wide, then narrow, then wide again: each equals what a fresh Preprocessor makes."""
    reused = Preprocessor(D0)
    for picture in (street, street[:, :100], street[:100], street):
        np.testing.assert_array_equal(reused(picture).pixels, Preprocessor(D0)(picture).pixels)


def test_the_buffer_is_reused(street):
    preprocess = Preprocessor(D0)
    assert preprocess(street).pixels is preprocess(street[:200]).pixels


def test_pictures_of_many_sizes_do_not_fill_the_memory():
    """All are square, so all fill the input in the same way; each needs other memory in between."""
    preprocess = Preprocessor(D0)
    tracemalloc.start()
    try:
        for side in range(513, 613):
            preprocess(np.zeros((side, side, 3), np.uint8))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 40e6  # one picture of 612 x 612 with four channels has 1.5 MB


def test_input_need_not_be_square(street):
    """480 x 640 into 256 x 640: the height decides, 341 columns are filled."""
    found = Preprocessor(resized(D0, (256, 640)))(street)
    assert found.pixels.shape == (1, 256, 640, 3)
    np.testing.assert_array_equal(found.pixels[0, :, :341], exact_resize(street, (341, 256)))
    assert (found.pixels[0, :, 341:] == FILL_BGR).all()


def test_a_cropped_view_is_read_where_it_lies(street):
    """Slices of a bigger picture have strides of their own."""
    view = street[10:300:1, 20:500]
    np.testing.assert_array_equal(Preprocessor(D0)(view).pixels, Preprocessor(D0)(view.copy()).pixels)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "bgra", "float", "empty"],
)
def test_other_pictures_are_refused(picture):
    with pytest.raises(ShapeError, match="uint8 BGR"):
        Preprocessor(D0)(picture)
