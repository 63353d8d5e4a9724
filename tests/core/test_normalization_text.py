from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.normalization import (
    Fixed,
    ImageNet,
    Normalization,
    Percentile,
    ScaleLinear,
    ZeroMeanUnitVariance,
    parse_normalization,
)
from napari_cellclf.core.normalization_forms import FORMS
from napari_cellclf.errors import NormalizationError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("zero_mean_unit_variance", ZeroMeanUnitVariance()),
        ("min_max", Percentile(low=0, high=100)),
        ("percentile:1,99.5", Percentile()),
        ("scale_linear", ScaleLinear()),
        ("scale_linear:255", ScaleLinear()),
        ("scale_linear:65535", ScaleLinear()),
        ("scale_linear:x7", ScaleLinear(factor=7)),
        ("fixed:100/20", Fixed(mean=(100,), std=(20,))),
        ("fixed:100/20,3.5/0.5", Fixed(mean=(100, 3.5), std=(20, 0.5))),
        ("imagenet:tf", ImageNet()),
        (" imagenet:raw ", ImageNet(mean=(0, 0, 0), std=(1, 1, 1))),
    ],
)
def test_words_and_their_numbers(text: str, meant: Normalization) -> None:
    assert parse_normalization(text) == meant


def test_imagenet_in_blue_green_red() -> None:
    caffe = parse_normalization("imagenet:caffe")
    assert isinstance(caffe, ImageNet)
    assert (caffe.mean, caffe.bgr) == ((123.68, 116.779, 103.939), True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a normalisation; give one of zero_mean_unit_variance"),
        ("/255", "is not a normalisation"),
        ("scale_linear:6", "give scale_linear or scale_linear:xN"),
        ("percentile", "give percentile:LOW,HIGH"),
        ("percentile:99,1", "give percentile:LOW,HIGH"),
        ("percentile:1,2,3", "give percentile:LOW,HIGH"),
        ("fixed:100", "give fixed:MEAN/STD"),
        ("fixed:1/0", "give fixed:MEAN/STD"),
        ("fixed:nan/1", "give fixed:MEAN/STD"),
        ("imagenet", "give imagenet:tf|torch|caffe|raw"),
        ("min_max:0,1", "give min_max"),
    ],
)
def test_anything_else_is_told(text: str, told: str) -> None:
    with pytest.raises(NormalizationError) as caught:
        parse_normalization(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.text(max_size=30)
    | st.sampled_from(sorted(FORMS)).flatmap(
        lambda form: st.text("0123456789.,/x-einf", max_size=12).map(form.split(":")[0].__add__)
    )
)
def test_nothing_but_our_own_error(text: str) -> None:
    try:
        parsed = parse_normalization(text)
    except NormalizationError:
        return
    assert parsed.kind in ("zero_mean_unit_variance", "percentile", "scale_linear", "fixed")
