"""Plain checks of pixels find what they name, and nothing in images that are as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.core.image import Image
from napari_cellclf.core.image_checks import image_remarks, pixel_size_remark
from napari_cellclf.core.objects import ObjectCrop
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.io.read import read_image

_NAMES = ("w1", "w2", "w3", "w4")
_IN_ORDER = dict(zip(_NAMES, range(4), strict=True))


def _pixels(seed: int = 0, side: int = 40) -> np.ndarray:
    """Dark with some light, as fluorescence is."""
    random = np.random.default_rng(seed)
    return np.asarray(random.gamma(1.0, 12.0, (4, side, side)) + 5).clip(0, 250).astype(np.uint8)


def _remarks(pixels: np.ndarray, **fields: object) -> tuple[str, ...]:
    return image_remarks(Image(pixels, "CYX", _NAMES, **fields), _IN_ORDER)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    constant=st.sets(st.integers(0, 3), max_size=3),
    value=st.integers(0, 255),
    dtype=st.sampled_from(["uint8", "uint16", "int32", "float32"]),
)
def test_constant_channels_are_named_whatever_their_value(
    seed: int, constant: set[int], value: int, dtype: str
) -> None:
    pixels = _pixels(seed).astype(dtype)
    pixels[list(constant)] = value
    assert _remarks(pixels) == tuple(f"constant channel: w{n + 1}" for n in sorted(constant))


@given(value=st.integers(0, 65535))
def test_an_image_of_constant_channels_is_empty(value: int) -> None:
    assert _remarks(np.full((4, 9, 7), value, np.uint16)) == ("empty image",)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), order=st.permutations(range(4)))
def test_channels_that_are_the_same_are_named_together(seed: int, order: list[int]) -> None:
    pixels = _pixels(seed)
    one, other, third, _ = order
    pixels[other] = pixels[one]
    first, last = sorted((one + 1, other + 1))
    assert _remarks(pixels) == (f"same pixels: w{first} and w{last}",)
    pixels[third] = pixels[one]
    names = [f"w{n}" for n in sorted((one + 1, other + 1, third + 1))]
    assert _remarks(pixels) == (f"same pixels: {', '.join(names[:-1])} and {names[-1]}",)


def test_one_pixel_is_enough_to_tell_channels_apart() -> None:
    large = np.repeat(_pixels(side=600)[:1], 4, axis=0)
    large[1, 311, 257] += 1
    large[2] = 3
    large[2, 311, 257] = 4
    large[3] = _pixels(1, 600)[0]
    assert _remarks(large) == ()


@pytest.mark.parametrize(("bits", "dtype"), [(8, "uint8"), (12, "uint16"), (16, "float32")])
def test_dark_channels_with_many_pixels_at_the_camera_s_limit_are_saturated(
    bits: int, dtype: str
) -> None:
    pixels = _pixels(side=300).astype(dtype)
    pixels[1, :12, :100] = 2**bits - 1
    assert _remarks(pixels) == ("saturated: w2",)
    pixels[1, :5] = 20
    pixels[1, 5:, :60] = 20
    assert _remarks(pixels) == (), "fewer than 1 % are no remark"


def test_a_declared_white_is_a_limit_too() -> None:
    pixels = _pixels(side=100).astype(np.uint16)
    pixels[3, :30] = 5000
    assert _remarks(pixels) == ()
    assert _remarks(pixels, white=5000) == ("saturated: w4",)


def test_white_background_is_no_saturation() -> None:
    bright = 255 - _pixels(side=100)
    bright[:, :40] = 255
    assert _remarks(bright) == ()


def test_a_channel_that_the_image_lacks_is_no_remark() -> None:
    pixels = _pixels()
    image = Image(pixels[:2], "CYX", _NAMES[:2])
    assert image_remarks(image, {"w1": 0, "w2": 1, "w3": None, "w4": None}) == ()


def test_grey_as_three_equal_colours_is_no_remark() -> None:
    grey = Image(_pixels()[0], "YX", ("grey",))
    assert image_remarks(grey, dict.fromkeys(("red", "green", "blue"), 0)) == ()
    assert image_remarks(grey, {"w1": 0, "w4": 0}) == ("same pixels: w1 and w4",)


@given(here=st.floats(0.01, 100), there=st.floats(0.01, 100))
def test_pixel_sizes_are_compared_either_way_round(here: float, there: float) -> None:
    assert bool(pixel_size_remark(here, there)) == bool(pixel_size_remark(there, here))
    assert bool(pixel_size_remark(here, there)) == (max(here / there, there / here) > 1.5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.5),
        # 80 pixels become 40, so that each of them covers twice as much.
        ({"size": (40, 40)}, 1.0),
        ({"size": (40, 40), "centre": 0.5}, 0.5),
        ({"object_crop": ObjectCrop(side=20), "size": (64, 64)}, 0.5),
        ({"object_crop": ObjectCrop(side=20, unit="micrometres"), "size": (64, 64)}, None),
        ({"object_crop": ObjectCrop(side=None), "size": (64, 64)}, None),
    ],
)
def test_the_pixel_size_is_that_of_the_network_s_input(
    settings: dict[str, object], expected: float | None
) -> None:
    prepare = Preprocessing.model_validate({"channels": [{"name": "DNA"}], **settings})
    image = Image(np.zeros((80, 80), np.uint8), "YX", pixel_size=(0.5, 0.5))
    assert prepare.pixel_size(image) == expected
    assert prepare.pixel_size(Image(image.data, "YX")) is None


@pytest.mark.parametrize("folder", ["blood", "nuclei", "jurkat", "zebrafish", "rxrx1"])
def test_real_images_give_hardly_any_remark(real_data: Path, folder: str) -> None:
    kinds = (".png", ".jpg", ".tif", ".tiff")
    found = sorted(path for path in (real_data / folder).rglob("*") if path.suffix in kinds)
    files = [path for path in found if "masks" not in path.parts]
    remarked = []
    for path in files[:: 1 + len(files) // 40]:
        image = read_image(path)
        names = {name or f"c{n}": n for n, name in enumerate(image.channels)}
        remarked += image_remarks(image, names)
    assert len(remarked) <= 2, remarked
