from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from napari_cellclf.core.normalization import (
    AnyNormalization,
    Fixed,
    ImageNet,
    Percentile,
    ScaleLinear,
    ZeroMeanUnitVariance,
    full_scale,
)
from napari_cellclf.errors import NormalizationError

U8, U16, F32 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("float32")

bytes_yxc = arrays(np.uint8, (6, 5, 2)).map(lambda a: a.astype(np.float32))


def ramp(channels: int = 1) -> np.ndarray:
    plane = np.arange(64, dtype=np.float32).reshape(8, 8, 1) * 4
    return np.repeat(plane, channels, axis=2)


@given(bytes_yxc)
def test_zero_mean_unit_variance_is_what_it_says(pixels):
    out = ZeroMeanUnitVariance()(pixels, U8)
    assert out.dtype == np.float32
    assert out.shape == pixels.shape
    np.testing.assert_allclose(out.mean(axis=(0, 1)), 0, atol=1e-5)
    spread = out.std(axis=(0, 1))
    flat = np.ptp(pixels, axis=(0, 1)) == 0
    np.testing.assert_allclose(spread[~flat], 1, atol=1e-5)
    assert (out[..., flat] == 0).all()


@given(bytes_yxc, st.floats(0.1, 300), st.floats(-50, 5000))
def test_gain_and_offset_cancel_out(pixels, gain, offset):
    plain = ZeroMeanUnitVariance()(pixels, U8)
    other = ZeroMeanUnitVariance()((pixels * gain + offset).astype(np.float32), F32)
    varied = np.ptp(pixels, axis=(0, 1)) > 16
    np.testing.assert_allclose(plain[..., varied], other[..., varied], atol=5e-3)


def test_a_small_variation_on_a_large_offset_survives():
    pixels = ramp() + np.float32(60_000)
    np.testing.assert_allclose(
        ZeroMeanUnitVariance()(pixels, U16), ZeroMeanUnitVariance()(ramp(), U8), atol=1e-3
    )


def test_percentile_goes_from_zero_to_one_and_clips():
    out = Percentile(low=10, high=90)(ramp(), U8)
    assert (out.min(), out.max()) == (0, 1)
    assert (out == 0).sum() > 1
    assert (out == 1).sum() > 1


def test_percentile_of_a_flat_channel_is_zero():
    assert not Percentile()(np.full((4, 4, 1), 7, np.float32), U8).any()


@pytest.mark.parametrize(("low", "high"), [(50, 50), (90, 10), (-1, 50), (0, 101)])
def test_percentiles_must_be_in_order(low, high):
    with pytest.raises(ValidationError):
        Percentile(low=low, high=high)


def test_scale_linear_divides_by_the_range_of_the_type():
    white = np.full((2, 2, 1), 255, np.float32)
    assert (ScaleLinear()(white, U8) == 1).all()
    np.testing.assert_allclose(ScaleLinear()(white, U16), 255 / 65535)


def test_scale_linear_brightens_and_saturates():
    out = ScaleLinear(factor=7)(np.array([[[0], [10], [36], [37], [255]]], np.float32), U8)
    np.testing.assert_allclose(out.ravel(), [0, 70 / 255, 252 / 255, 1, 1], rtol=1e-6)


@given(arrays(np.uint16, (6, 5, 1)))
def test_sixteen_bit_originals_equal_their_eight_bit_copies(raw):
    scale = ScaleLinear(factor=7, eight_bit=True)
    np.testing.assert_array_equal(
        scale(raw.astype(np.float32), U16), scale((raw >> 8).astype(np.float32), U8)
    )


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_floating_point_pixels_outside_0_to_1_have_no_white(value):
    with pytest.raises(NormalizationError, match="no known white"):
        ScaleLinear()(np.full((2, 2, 1), value, np.float32), F32)


def test_full_scale_of_each_kind():
    pixels = np.zeros((2, 2, 1), np.float32)
    assert full_scale(pixels, U8) == 255
    assert full_scale(pixels, U16) == 65535
    assert full_scale(pixels, np.dtype(bool)) == 1
    assert full_scale(pixels, F32) == 1


def test_fixed_uses_its_numbers_per_channel():
    out = Fixed(mean=(1, 2), std=(2, 4))(np.full((1, 1, 2), 6, np.float32), U8)
    np.testing.assert_allclose(out.ravel(), [2.5, 1.0])


def test_fixed_refuses_other_channel_counts():
    with pytest.raises(NormalizationError, match="numbers for 2 channels, but 3"):
        Fixed(mean=(1, 2), std=(2, 4))(ramp(3), U8)


@pytest.mark.parametrize(
    "numbers",
    [
        {"mean": (1,), "std": (0,)},
        {"mean": (1, 2), "std": (1,)},
        {"mean": (), "std": ()},
        {"mean": (np.nan,), "std": (1,)},
    ],
)
def test_fixed_numbers_must_make_sense(numbers):
    with pytest.raises(ValidationError):
        Fixed(**numbers)


def test_imagenet_form_scales_by_type_and_may_swap_colours():
    pixels = np.array([[[255, 0, 127.5]]], np.float32)
    np.testing.assert_allclose(ImageNet()(pixels, U8).ravel(), [1, -1, 0])
    np.testing.assert_allclose(ImageNet(bgr=True)(pixels, U8).ravel(), [0, -1, 1])


def test_imagenet_numbers_are_averaged_for_other_channel_counts():
    form = ImageNet(mean=(0, 3, 6), std=(1, 2, 3))
    np.testing.assert_allclose(form(np.full((1, 1, 2), 3, np.float32), U8), 0)


def test_faint_contrast_on_a_bright_background_is_kept():
    # One grey level in ten thousand, as on a cooled camera with a high offset.
    faint = np.tile(np.float32([10_000, 10_001]), 32).reshape(8, 8, 1)
    np.testing.assert_allclose(np.unique(ZeroMeanUnitVariance()(faint, U16)), [-1, 1], rtol=1e-5)


def test_rounding_is_no_contrast():
    almost = np.full((8, 8, 1), 1e4, np.float32)
    almost[0, 0] = np.nextafter(np.float32(1e4), np.float32(2e4))
    assert not ZeroMeanUnitVariance()(almost, F32).any()


@pytest.mark.parametrize(("value", "fits"), [(1.0009, True), (1.002, False), (-0.0009, True)])
def test_white_of_floating_point_pixels_allows_for_rounding_only(value, fits):
    pixels = np.array([[[0.5], [value]]], np.float32)
    if fits:
        assert full_scale(pixels, F32) == 1
    else:
        with pytest.raises(NormalizationError, match="no known white"):
            full_scale(pixels, F32)


ALL = [
    ZeroMeanUnitVariance(),
    Percentile(),
    ScaleLinear(factor=6, eight_bit=True),
    Fixed(mean=(1, 1), std=(2, 2)),
    ImageNet(bgr=True),
]


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.kind)
def test_the_input_is_never_written_to(form):
    pixels = ramp(2)
    pixels.flags.writeable = False
    before = pixels.copy()
    out = form(pixels, U8)
    np.testing.assert_array_equal(pixels, before)
    assert out.shape == pixels.shape
    assert out.dtype == np.float32
    assert not np.shares_memory(out, pixels)


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.kind)
def test_each_form_survives_json(form):
    union = TypeAdapter(AnyNormalization)
    again = union.validate_json(union.dump_json(form))
    assert again == form
    assert type(again) is type(form)


def test_an_unknown_form_or_key_is_refused():
    union = TypeAdapter(AnyNormalization)
    for text in ('{"kind": "median"}', '{"kind": "percentile", "lo": 1}', "{}"):
        with pytest.raises(ValidationError):
            union.validate_json(text)
