"""Resizing by matrices, block by block, gives scikit-image's numbers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize as by_scikit_image

from napari_cellclf.core import resizing
from napari_cellclf.core.progress import watched
from napari_cellclf.core.resizing import resized

sides = st.integers(1, 40)


def wanted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < pixels.shape[0] or size[1] < pixels.shape[1]
    return by_scikit_image(pixels, size, order=1, anti_aliasing=shrinks, preserve_range=True)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(1, 500), st.integers(0, 100))
def test_the_numbers_are_those_of_scikit_image(
    height: int, width: int, new_height: int, new_width: int, block: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((height, width), np.float32) * 65535
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resizing, "_BLOCK_PIXELS", block)
        found = resized(pixels, (new_height, new_width))
    assert found.dtype == np.float32
    # 65,535 in float32 is exact to 0.004.
    np.testing.assert_allclose(found, wanted(pixels, found.shape), rtol=1e-5, atol=0.05)


@pytest.mark.parametrize(("before", "after"), [(512, 128), (363, 100), (2048, 33), (7, 20), (9, 1)])
def test_coefficients_are_those_of_scikit_image_to_the_last_bit(before: int, after: int) -> None:
    units = np.eye(before)[..., np.newaxis]
    columns = by_scikit_image(
        units, (after, before, 1), order=1, anti_aliasing=after < before, preserve_range=True
    )[..., 0]
    (band,) = resizing._bands(before, after, after)
    matrix = np.zeros((after, before), np.float32)
    matrix[:, band.first : band.end] = band.matrix.toarray()
    np.testing.assert_array_equal(matrix, columns.astype(np.float32))


@pytest.mark.parametrize("shape", [(3000, 40), (40, 3000), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_blocks_do_not_show(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], dtype: type
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    whole = resized(pixels, (24, 31))
    monkeypatch.setattr(resizing, "_BLOCK_PIXELS", 1000)
    monkeypatch.setattr(resizing, "_KEPT", 10)
    np.testing.assert_array_equal(resized(pixels, (24, 31)), whole)
    np.testing.assert_allclose(whole, wanted(pixels.astype(np.float32), (24, 31)), atol=1e-3)


@pytest.mark.parametrize("shape", [(6000, 6000), (9, 1_000_000), (1_000_000, 9)])
def test_a_large_image_takes_little_memory_beside_its_own(shape: tuple[int, int]) -> None:
    pixels = np.zeros(shape, np.uint8)
    resized(pixels, (64, 64))
    tracemalloc.start()
    resized(pixels, (64, 64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 4 * resizing._BLOCK_PIXELS


def test_a_large_image_tells_how_far_it_is_and_can_be_ended() -> None:
    told: list[float] = []

    def watch(what: str, fraction: float) -> None:
        assert what == "preparing"
        told.append(fraction)
        if fraction > 0.3:
            raise InterruptedError

    pixels = np.zeros((9000, 9000), np.uint8)
    with watched(watch), pytest.raises(InterruptedError):
        resized(pixels, (64, 64))
    assert told == sorted(told)
    assert len(told) > 1
    # Nobody watches any more.
    resized(pixels[:100, :100], (64, 64))
