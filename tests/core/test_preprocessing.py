from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing, central
from napari_cellclf.core.resizing import resized
from napari_cellclf.errors import AxesError, ChannelMismatchError, ImageError, NormalizationError

scenes = arrays(np.uint8, (2, 12, 10))
NAMES = ("DNA", "actin")
FORMS = {
    "zero_mean_unit_variance": {"kind": "zero_mean_unit_variance"},
    "percentile": {"kind": "percentile"},
    "scale_linear": {"kind": "scale_linear", "factor": 6.0},
    "imagenet": {"kind": "imagenet"},
}


def prepare(form: str = "zero_mean_unit_variance", **more) -> Preprocessing:
    more.setdefault("channels", tuple({"name": name} for name in NAMES))
    return Preprocessing(normalization=FORMS[form], **more)


@pytest.mark.parametrize("form", FORMS)
@given(scene=scenes)
@settings(max_examples=25)
def test_8_bit_16_bit_and_float_of_a_scene_give_the_same_array(form, scene):
    call = prepare(form)
    eight = call(Image(scene, "CYX", NAMES))
    # 257 = 65535 / 255: the same scene with white at the top of its type.
    sixteen = call(Image(scene.astype(np.uint16) * 257, "CYX", NAMES))
    real = call(Image(scene.astype(np.float64) / 255, "CYX", NAMES))
    np.testing.assert_allclose(eight, sixteen, atol=2e-4)
    np.testing.assert_allclose(eight, real, atol=2e-4)


@given(scene=scenes, axes=st.permutations("CYX").map("".join))
def test_the_order_of_axes_does_not_matter(scene, axes):
    turned = scene.transpose(["CYX".index(letter) for letter in axes])
    np.testing.assert_array_equal(
        prepare()(Image(scene, "CYX", NAMES)), prepare()(Image(turned, axes, NAMES))
    )


@given(scenes)
def test_channels_are_put_in_the_network_s_order(scene):
    straight = prepare()(Image(scene, "CYX", NAMES))
    swapped = prepare()(Image(scene[::-1], "CYX", NAMES[::-1]))
    np.testing.assert_array_equal(straight, swapped)


def test_a_mapping_by_the_user_wins_over_names():
    scene = np.random.default_rng(0).integers(0, 255, (2, 8, 8)).astype(np.uint8)
    image = Image(scene, "CYX", NAMES)
    mapped = prepare()(image, {"DNA": "actin", "actin": "DNA"})
    np.testing.assert_array_equal(mapped, prepare()(image)[..., ::-1])


@pytest.mark.parametrize("size", [None, (6, 7), (12, 10), (30, 40)])
@pytest.mark.parametrize("form", FORMS)
def test_shape_and_type(form, size):
    out = prepare(form, size=size)(Image(np.eye(12, 10, dtype=np.uint8)[None].repeat(2, 0), "CYX"))
    assert out.shape == (*(size or (12, 10)), 2)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "float16", "float64", ">u2"])
def test_every_pixel_type_is_taken(dtype):
    scene = (np.arange(200).reshape(2, 10, 10) % 2).astype(dtype)
    out = prepare()(Image(scene, "CYX"))
    assert out.dtype == np.float32
    np.testing.assert_allclose(np.abs(out), 1, atol=1e-3)


def test_saturation():
    image = Image(np.array([[0, 20], [60, 255]], np.uint8), "YX")
    out = prepare("scale_linear", channels=({"name": "membrane"},))(image)
    np.testing.assert_allclose(out[..., 0], [[0, 120 / 255], [1, 1]], rtol=1e-6)


@pytest.mark.parametrize("size", [None, (5, 5)])
@pytest.mark.parametrize("form", FORMS)
def test_the_image_is_never_written_to(form, size):
    scene = np.random.default_rng(0).random((2, 10, 10)).astype(np.float32)
    before = scene.copy()
    scene.flags.writeable = False
    out = prepare(form, size=size)(Image(scene, "CYX", NAMES))
    np.testing.assert_array_equal(scene, before)
    assert not np.shares_memory(out, scene)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(value):
    scene = np.zeros((2, 8, 8))
    scene[1, 2, 3] = value
    with pytest.raises(ImageError, match=r"a\.tif has 1 pixels that are not finite"):
        prepare()(Image(scene, "CYX", NAMES, source="a.tif"))


def test_bad_pixels_in_an_unused_channel_do_no_harm():
    scene = np.zeros((3, 8, 8))
    scene[2] = np.nan
    out = prepare()(Image(scene, "CYX", (*NAMES, "other")))
    assert not out.any()


def test_floats_without_a_known_white_are_refused():
    with pytest.raises(NormalizationError, match="no known white"):
        prepare("scale_linear")(Image(np.full((2, 4, 4), 300.0), "CYX"))


def test_several_planes_are_refused():
    with pytest.raises(AxesError, match="plane by plane"):
        prepare()(Image(np.zeros((3, 2, 4, 4)), "TCYX", NAMES))


def test_a_missing_required_channel_is_refused():
    with pytest.raises(ChannelMismatchError, match="actin"):
        prepare()(Image(np.zeros((2, 4, 4)), "CYX", ("DNA", "other")))


@pytest.mark.parametrize(
    "form", [*FORMS.values(), {"kind": "fixed", "mean": (5.0, 6.0, 7.0), "std": (1.0, 2.0, 3.0)}]
)
def test_missing_optional_channels_become_zeros(form):
    channels = ({"name": "a", "required": False}, {"name": "b"}, {"name": "c"})
    call = Preprocessing(channels=channels, normalization=form)
    scene = np.random.default_rng(0).integers(1, 255, (3, 8, 8)).astype(np.uint8)
    full = call(Image(scene, "CYX", ("a", "b", "c")))
    partial = call(Image(scene[1:], "CYX", ("b", "c")))
    assert not partial[..., 0].any()
    np.testing.assert_array_equal(partial[..., 1:], full[..., 1:])


def test_json_keeps_every_number():
    call = prepare("scale_linear", size=(64, 48))
    assert Preprocessing.model_validate_json(call.model_dump_json()) == call


@pytest.mark.parametrize(
    "values",
    [
        {"channels": ()},
        {"channels": ({"name": "a"},), "size": (0, 5)},
        {"channels": ({"name": "a"},), "size": (5, 20_000)},
        {"channels": ({"name": "a"},), "sizes": (5, 5)},
        {"channels": ({"name": "a"},), "centre": 0},
        {"channels": ({"name": "a"},), "centre": 1.01},
        {
            "channels": ({"name": "a", "required": False}, {"name": "b"}, {"name": "c"}),
            "normalization": {"kind": "imagenet", "bgr": True},
        },
    ],
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError):
        Preprocessing(**values)


@given(
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    part=st.floats(0.01, 1, exclude_min=True),
)
def test_the_middle_is_what_lies_between_equal_margins(sides, part):
    pixels = np.arange(sides[0] * sides[1]).reshape(1, *sides)
    kept = central(pixels, part)
    assert len(kept) == 1
    kept = kept[0]
    for axis, side in enumerate(sides):
        assert 1 <= kept.shape[axis] <= side
        assert abs(kept.shape[axis] - side * part) <= 1
    before = np.array(np.unravel_index(kept.flat[0], sides))
    after = np.array(sides) - 1 - np.unravel_index(kept.flat[-1], sides)
    assert (abs(before - after) <= 1).all()


def test_only_the_middle_counts_when_only_it_is_looked_at():
    scene = np.random.default_rng(0).integers(1, 99, (2, 20, 20)).astype(np.uint8)
    blank = np.zeros_like(scene)
    blank[:, 5:15, 5:15] = scene[:, 5:15, 5:15]
    for form in FORMS:
        call = prepare(form, centre=0.5, size=(8, 8))
        np.testing.assert_array_equal(
            call(Image(scene, "CYX", NAMES)), call(Image(blank, "CYX", NAMES))
        )


def test_resizing_keeps_the_mean_of_a_smooth_scene():
    y, x = np.mgrid[0:64, 0:64] / 64
    pixels = (np.sin(3 * x) + y).astype(np.float32)
    for size in ((32, 32), (96, 80)):
        assert resized(pixels, size).mean() == pytest.approx(pixels.mean(), abs=0.01)


def test_shrinking_does_not_alias():
    board = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    small = resized(board, (16, 16))
    assert abs(small - 0.5).max() < 0.1
