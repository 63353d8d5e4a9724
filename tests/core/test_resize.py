"""Resizing by matrices gives scikit-image's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize as by_scikit_image

from napari_cellclf.core import preprocessing
from napari_cellclf.core.preprocessing import resize

sides = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(1, 3), st.integers(0, 100))
def test_the_numbers_are_those_of_scikit_image(
    height: int, width: int, new_height: int, new_width: int, channels: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((height, width, channels), np.float32) * 65535
    shrinks = new_height < height or new_width < width
    wanted = by_scikit_image(
        pixels,
        (new_height, new_width, channels),
        order=1,
        anti_aliasing=shrinks,
        preserve_range=True,
    )
    found = resize(pixels, (new_height, new_width))
    assert found.dtype == np.float32
    # 65,535 in float32 is exact to 0.004.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=0.05)


def test_one_size_is_the_input_itself() -> None:
    pixels = np.ones((4, 5, 2), np.float32)
    assert resize(pixels, (4, 5)) is pixels


def test_a_long_side_is_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).random((60, 50, 2), np.float32)
    short = resize(pixels, (17, 70))
    monkeypatch.setattr(preprocessing, "_LONGEST", 10)
    np.testing.assert_allclose(resize(pixels, (17, 70)), short, atol=1e-6)
