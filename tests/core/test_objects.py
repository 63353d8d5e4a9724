from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from skimage.measure import regionprops_table

from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import (
    ImageObject,
    ObjectCrop,
    objects_at,
    objects_in_mask,
    position_text,
)
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import ImageError

masks = arrays(
    np.uint16,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    # Nothing but 1 in several pieces is refused, of which there are tests of their own.
    elements=st.sampled_from([0, 0, 0, 2, 3, 5, 9, 40_000]),
)
NAMES = ("DNA", "actin")
RAW = {"kind": "scale_linear", "factor": 1.0}


def prepare(crop: ObjectCrop | None, **more) -> Preprocessing:
    more.setdefault("normalization", RAW)
    return Preprocessing(channels=tuple({"name": name} for name in NAMES), object_crop=crop, **more)


def scene(height: int = 20, width: int = 30, **more) -> Image:
    pixels = np.random.default_rng(0).integers(1, 255, (2, height, width)).astype(np.uint8)
    return Image(pixels, "CYX", NAMES, source="field.tif", **more)


@given(masks)
def test_objects_are_those_of_regionprops(mask):
    table = regionprops_table(
        mask.astype(np.int32), properties=("label", "centroid", "bbox", "area", "image")
    )
    found = objects_in_mask(mask)
    assert [one.number for one in found] == table["label"].tolist()
    for row, one in enumerate(found):
        assert one.centre == (table["centroid-0"][row], table["centroid-1"][row])
        assert one.box == tuple(table[f"bbox-{i}"][row] for i in range(4))
        assert one.area == table["area"][row]
        np.testing.assert_array_equal(one.mask, table["image"][row])
        top, left, bottom, right = one.box
        height, width = mask.shape
        edge = not top or not left or bottom == height or right == width
        assert one.touches_border == edge


def test_numbers_may_be_of_any_size_and_type():
    mask = np.zeros((5, 6), np.int64)
    mask[1, 1], mask[3, 4] = 2**40, 3
    assert [one.number for one in objects_in_mask(mask)] == [3, 2**40]
    assert [one.number for one in objects_in_mask(mask.astype(np.float64))] == [3, 2**40]
    assert objects_in_mask(np.zeros((4, 4), np.uint8)) == ()
    full = np.full((2, 2), 2**33)
    assert objects_in_mask(full)[0].area == 4


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.full((3, 3), 0.5), "not whole"),
        (np.full((3, 3), np.nan), "not whole"),
        (np.full((3, 3), -1), "holds -1"),
        (np.zeros((3, 3, 3), int), "is no plane"),
        (np.full((3, 3), "a"), "holds no numbers"),
    ],
)
def test_what_is_no_label_mask_is_one_sentence(mask, says):
    with pytest.raises(ImageError, match=says):
        objects_in_mask(mask)


@given(
    mask=masks,
    side=st.floats(0.5, 40, allow_nan=False),
    margin=st.floats(0, 5, allow_nan=False),
)
def test_a_centre_gives_the_pixels_that_a_mask_gives(mask, side, margin):
    image = scene(*mask.shape)
    call = prepare(ObjectCrop(side=side, margin=margin))
    found = objects_in_mask(mask)
    for one, point in zip(found, objects_at([one.centre for one in found]), strict=True):
        np.testing.assert_array_equal(call(image, region=one), call(image, region=point))


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    side=st.integers(1, 60),
)
def test_edges_are_mirrored_as_numpy_does_it_for_any_size(shape, where, side):
    image = scene(*shape)
    centre = tuple(at * (length - 1) for at, length in zip(where, shape, strict=True))
    cut = prepare(ObjectCrop(side=side)).unnormalized(image, region=ImageObject(1, centre))
    padded = np.pad(image.data, ((0, 0), (side, side), (side, side)), mode="reflect")
    top, left, bottom, right = ObjectCrop(side=side).window(ImageObject(1, centre))
    expected = padded[:, top + side : bottom + side, left + side : right + side]
    np.testing.assert_array_equal(np.moveaxis(cut, -1, 0), expected)


@given(st.integers(0, 19), st.integers(0, 29), st.sampled_from([1, 3, 5]))
def test_the_middle_of_an_odd_crop_is_the_centre(y, x, side):
    image = scene()
    cut = prepare(ObjectCrop(side=side)).unnormalized(image, region=objects_at([(y, x)])[0])
    assert cut.shape == (side, side, 2)
    np.testing.assert_array_equal(cut[side // 2, side // 2], image.data[:, y, x])


def test_a_box_gets_its_margin():
    mask = np.zeros((20, 30), int)
    mask[4:9, 10:20] = 1
    (one,) = objects_in_mask(mask)
    image = scene()
    cut = prepare(ObjectCrop(side=None, margin=2)).unnormalized(image, region=one)
    np.testing.assert_array_equal(np.moveaxis(cut, -1, 0), image.data[:, 2:11, 8:22])


@given(masks, st.sampled_from([None, 7.0]), st.integers(0, 3))
@settings(max_examples=50)
def test_masked_keeps_only_the_object_s_own_pixels(mask, side, margin):
    image = scene(*mask.shape)
    rule = ObjectCrop(side=side, margin=margin, masked=True)
    for one in objects_in_mask(mask):
        cut = prepare(rule).unnormalized(image, region=one)
        top, left, bottom, right = rule.window(one)
        for y in range(top, bottom):
            for x in range(left, right):
                inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
                own = inside and mask[y, x] == one.number
                expected = image.data[:, y, x] if own else 0
                np.testing.assert_array_equal(cut[y - top, x - left], expected)


def test_masked_pixels_are_zero_before_they_are_normalised():
    mask = np.zeros((20, 30), int)
    mask[4:9, 10:20] = 1
    (one,) = objects_in_mask(mask)
    call = prepare(
        ObjectCrop(side=None, margin=1, masked=True),
        normalization={"kind": "fixed", "mean": [-5.0, -5.0], "std": [1.0, 1.0]},
    )
    assert (call(scene(), region=one)[0] == 5).all()


def test_micrometres_follow_the_size_of_a_pixel():
    one = ImageObject(1, (10.0, 15.0), (8, 13, 13, 18))
    rule = ObjectCrop(side=10, margin=1, unit="micrometres")
    assert rule.window(one, (2.0, 1.0)) == (8, 10, 14, 22)
    assert ObjectCrop(side=None, margin=2, unit="micrometres").window(one, (2.0, 1.0)) == (
        7,
        11,
        14,
        20,
    )
    with pytest.raises(ImageError, match=r"field\.tif does not say how large its pixels are"):
        prepare(rule)(scene(), region=one)
    with pytest.raises(ImageError, match="more than 16384; check its pixel size"):
        prepare(rule)(scene(pixel_size=(1e-300, 1.0)), region=one)


def test_wholes_and_objects_are_not_mixed_up():
    one = ImageObject(3, (10.0, 15.0))
    with pytest.raises(ImageError, match="came without objects"):
        prepare(ObjectCrop(side=8))(scene())
    with pytest.raises(ImageError, match=r"object 3 of field\.tif was given to a model of whole"):
        prepare(None)(scene(), region=one)


@pytest.mark.parametrize(
    ("rule", "one", "says"),
    [
        (ObjectCrop(side=None), ImageObject(3, (1.0, 1.0)), "object 3 .* is a point"),
        (ObjectCrop(side=4, masked=True), ImageObject(3, (1.0, 1.0)), "object 3 .* has no mask"),
        (ObjectCrop(side=4), ImageObject(3, (25.0, 1.0)), "object 3 .* is outside field.tif"),
    ],
)
def test_an_object_that_does_not_fit_the_rule_is_one_sentence(rule, one, says):
    with pytest.raises(ImageError, match=says):
        prepare(rule)(scene(), region=one)


def test_only_the_object_s_pixels_must_be_finite():
    pixels = np.ones((2, 20, 30), np.float32)
    pixels[0, 0, 0] = np.nan
    image = Image(pixels, "CYX", NAMES)
    far, near = objects_at([(15, 15), (2, 2)])
    assert np.isfinite(prepare(ObjectCrop(side=8))(image, region=far)).all()
    with pytest.raises(ImageError, match="1 pixels that are not finite"):
        prepare(ObjectCrop(side=5))(image, region=near)


@pytest.mark.parametrize(
    "fields",
    [
        {"side": 0},
        {"side": -3},
        {"side": float("nan")},
        {"side": 8, "margin": -1},
        {"side": 8, "unit": "metres"},
        {"side": None, "unit": "micrometres"},
        {"side": 8, "edge": 1},
        {},
    ],
)
def test_a_rule_that_cannot_be_is_refused(fields):
    with pytest.raises(ValidationError):
        ObjectCrop(**fields)


def test_an_object_is_not_cut_twice():
    with pytest.raises(ValidationError, match="leave centre at 1"):
        prepare(ObjectCrop(side=8), centre=0.5)


def test_objects_at_take_boxes_and_say_what_is_wrong():
    found = objects_at([(4, 5), (1, 1)], [(2, 3, 7, 8), (0, 0, 3, 3)], (20, 30))
    assert [(one.number, one.touches_border, one.area) for one in found] == [
        (1, False, None),
        (2, True, None),
    ]
    assert objects_at([]) == ()
    with pytest.raises(ImageError, match="not pairs of finite y and x"):
        objects_at([(1, 2, 3)])
    with pytest.raises(ImageError, match="not pairs of finite y and x"):
        objects_at([(1, np.nan)])


def test_the_rule_is_part_of_what_is_written_down():
    made = prepare(ObjectCrop(side=48, unit="micrometres", masked=True), size=(32, 32))
    assert Preprocessing.model_validate_json(made.model_dump_json()) == made


def test_ids_end_with_plane_and_object():
    assert position_text({"T": 3, "Z": 0}, 12) == "[t=3,z=0,object=12]"


def test_a_mask_of_one_number_in_pieces_is_no_label_mask() -> None:
    mask = np.zeros((20, 20), bool)
    mask[1:5, 1:5] = mask[10:15, 10:15] = True
    for levels in (mask, mask.astype(np.uint8) * 255):
        with pytest.raises(ImageError, match=r"in 2 separate pieces.*its own number"):
            objects_in_mask(levels)
    # Not so an object that lost a pixel, or one with a number that somebody gave it.
    mask[10:15, 10:15] = False
    mask[19, 19] = True
    (one,) = objects_in_mask(mask)
    assert (one.number, one.area) == (1, 17)
    (other,) = objects_in_mask(np.where(np.eye(20) * np.arange(20) % 8 > 3, 7, 0))
    assert other.number == 7


def test_floats_that_are_no_numbers_of_objects_are_refused() -> None:
    with pytest.raises(ImageError, match="1e\\+20 as a float"):
        objects_in_mask(np.full((3, 3), 1e20))
