"""Turning by fixed angles, with the frame kept or grown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.image import Image, rotate_image

FIXED = (45, 90, 135, 180, 270)


def image_of(shape: tuple[int, ...] = (9, 9), dtype: str = "uint8", low: int = 5) -> Image:
    pixels = np.random.default_rng(0).integers(low, 200, shape).astype(dtype)
    return Image(pixels, "CYX"[-len(shape) :])


@pytest.mark.parametrize("frame", ["keep", "grow"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_quarter_turns_of_a_square_only_move_pixels(degrees, frame):
    image = image_of()
    turned = rotate_image(image, degrees, frame)
    np.testing.assert_array_equal(turned.data[0], np.rot90(image.data, degrees // 90))


@pytest.mark.parametrize("degrees", FIXED)
def test_kept_frames_keep_their_size_and_grown_ones_hold_all(degrees):
    image = image_of((8, 14))
    assert rotate_image(image, degrees, "keep").data.shape == (1, 8, 14)
    grown = rotate_image(image, degrees, "grow").data.shape[1:]
    if degrees % 90:
        # A turned rectangle's bounding box.
        diagonal = (8 + 14) / np.sqrt(2)
        assert all(abs(side - diagonal) <= 2 for side in grown)
    else:
        assert sorted(grown) == [8, 14]


def test_all_turns_go_the_same_way():
    """Counter-clockwise: what is right of the middle comes to its top."""
    spot = np.zeros((41, 41), np.uint8)
    spot[18:23, 33:38] = 200
    for degrees in FIXED:
        turned = rotate_image(Image(spot, "YX"), degrees).data[0].astype(float)
        rows, columns = np.indices(turned.shape)
        y, x = (np.average(axis, weights=turned) - 20 for axis in (rows, columns))
        found = np.degrees(np.arctan2(-y, x)) % 360
        assert found == pytest.approx(degrees, abs=1)


def test_a_quarter_turn_of_an_oblong_goes_the_same_way_as_that_of_a_square():
    pixels = np.zeros((8, 20), np.uint8)
    pixels[4, 13] = 255
    kept = rotate_image(Image(pixels, "YX"), 90, "keep").data[0]
    assert kept.shape == (8, 20)
    assert kept[:4].sum() > 0
    assert kept[4:].sum() == 0


@pytest.mark.parametrize("degrees", FIXED)
def test_corners_are_each_channels_darkest_value(degrees):
    image = image_of((3, 16, 16))
    turned = rotate_image(image, degrees, "grow")
    assert turned.axes == "CYX"
    assert turned.channels == image.channels
    for channel in range(3):
        assert turned.data[channel].min() == image.data[channel].min()
        if degrees % 90:
            assert turned.data[channel, 0, 0] == image.data[channel].min()


@given(
    degrees=st.floats(-720, 720),
    frame=st.sampled_from(["keep", "grow"]),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_type_and_range_stay(degrees, frame, dtype, sides):
    image = image_of(sides, dtype)
    turned = rotate_image(image, degrees, frame)
    assert turned.data.dtype == image.data.dtype
    assert turned.data.min() >= image.data.min()
    assert turned.data.max() <= image.data.max()
    if frame == "keep":
        assert turned.data.shape == (1, *sides)


def test_no_turn_changes_nothing():
    image = image_of((6, 9))
    for degrees in (0, 360, -720):
        np.testing.assert_array_equal(rotate_image(image, degrees).data[0], image.data)


def test_a_full_well_stays_full():
    """Interpolated 16-bit numbers are rounded, not cut off, and never wrap around."""
    full = Image(np.full((9, 9), 65535, np.uint16), "YX")
    assert (rotate_image(full, 45).data == 65535).all()


def test_what_is_said_of_an_image_stays():
    image = Image(np.ones((4, 4)), "YX", source="a.png", metadata={"minute": 60})
    turned = rotate_image(image, 45)
    assert (turned.source, turned.metadata) == ("a.png", {"minute": 60})
