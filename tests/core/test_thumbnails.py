"""Thumbnails: ranges and colours as napari shows them, planes and objects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ImageObject, objects_in_mask
from napari_cellclf.core.thumbnails import display_range, plane_view


def _stains(*levels: int, shape: tuple[int, int] = (40, 40)) -> Image:
    """Channels that each have one bright quarter, left to right."""
    pixels = np.full((len(levels), *shape), 10, np.uint16)
    width = shape[1] // len(levels)
    for channel, level in enumerate(levels):
        pixels[channel, :, channel * width : (channel + 1) * width] = level
    return Image(pixels, "CYX", tuple(f"stain {channel}" for channel in range(len(levels))))


def test_one_channel_is_grey_and_fills_the_range() -> None:
    pixels = np.linspace(200, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    drawn = plane_view(Image(pixels, "YX"), ["red"]).thumbnail(32)
    assert drawn.shape == (32, 32, 3)
    assert drawn.dtype == np.uint8
    assert (drawn[..., 0] == drawn[..., 1]).all()
    assert (drawn[..., 1] == drawn[..., 2]).all()
    assert drawn.min() < 10
    assert drawn.max() > 245


def test_channels_have_their_colours() -> None:
    drawn = plane_view(_stains(500, 900), ["magenta", "green"]).thumbnail(40)
    left, right = drawn[20, 8], drawn[20, 32]
    assert left[0] == left[2] > 150
    assert left[1] == 0
    assert right[1] > 150
    assert right[0] == right[2] == 0


def test_colours_of_a_photograph_stay_as_they_are() -> None:
    pixels = np.zeros((30, 30, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    drawn = plane_view(Image(pixels, "YXS")).thumbnail(30)
    assert (drawn == (200, 100, 50)).all()


def test_twelve_bits_in_sixteen_are_not_black() -> None:
    pixels = np.full((30, 30, 3), 2047, np.uint16)
    drawn = plane_view(Image(pixels, "YXS", white=4095)).thumbnail(30)
    assert (drawn == 127).all()


@pytest.mark.parametrize(("shape", "bars"), [((20, 60), "rows"), ((60, 20), "columns")])
def test_what_is_not_square_is_centred_on_black(shape: tuple[int, int], bars: str) -> None:
    pixels = np.full(shape, 9, np.uint8)
    pixels[0, 0] = 0
    drawn = plane_view(Image(pixels, "YX")).thumbnail(30)
    lines = drawn.max(axis=(1, 2)) if bars == "rows" else drawn.max(axis=(0, 2))
    assert (lines[:10] == 0).all()
    assert (lines[11:20] > 200).all()
    assert (lines[20:] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 7.0])
def test_empty_and_odd_planes_are_drawn(value: float) -> None:
    pixels = np.full((50, 70), value, np.float32)
    drawn = plane_view(Image(pixels, "YX")).thumbnail(24)
    assert drawn.shape == (24, 24, 3)


def test_large_planes_are_averaged_in_blocks() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(1000, 200, (1024, 1024)).astype(np.float32)
    drawn = plane_view(Image(pixels, "YX")).thumbnail(64)
    # Noise of one pixel is gone.
    assert drawn.std() < 25


def test_an_object_is_in_the_middle_and_its_surroundings_are_dimmed() -> None:
    labels = np.zeros((100, 120), int)
    labels[30:50, 60:80] = 4
    (one,) = objects_in_mask(labels)
    pixels = np.full((100, 120), 100, np.uint8)
    pixels[0, 0] = 0
    view = plane_view(Image(pixels, "YX"))
    drawn = view.thumbnail(60, one, 40.0)
    assert drawn[30, 30, 0] == 255
    assert drawn[5, 5, 0] == round(0.55 * 255)
    # At twice the scale it covers twice as much.
    own = (view.thumbnail(60, one, 40.0) == 255).sum() / (
        view.thumbnail(60, one, 80.0) == 255
    ).sum()
    assert 3 < own < 5


def test_an_object_at_the_edge_a_large_one_and_a_point_are_drawn() -> None:
    labels = np.zeros((40, 40), int)
    labels[0:4, 0:4] = 1
    labels[5:40, 5:40] = 2
    view = plane_view(Image((labels * 50).astype(np.uint8), "YX"))
    for one in (*objects_in_mask(labels), ImageObject(3, (39.0, 0.0))):
        assert view.thumbnail(32, one, 12.0).shape == (32, 32, 3)
        assert view.thumbnail(32, one).max() > 0


def test_the_range_is_that_of_napari_layers() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert display_range([ramp], 1) == (1.275, 254.49)
    assert display_range([np.zeros((4, 4), np.uint16)], 1) == (0, 65535)
    assert display_range([np.zeros((4, 4), np.float32)], 1) == (0, 1)
