"""Images are known again by their pixels, and stay on the side of the split where they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_cellclf.core.image import Image
from napari_cellclf.core.seen_images import SeenImages, keep_sides, pixel_hashes, seen_warning
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.errors import AxesError, InputError

PLANES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9))


def hash_of(pixels: np.ndarray, axes: str = "YX") -> tuple[str, ...]:
    return pixel_hashes(Image(pixels, axes))


def noise(seed: int, dtype: str = "u1") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (30, 40)).astype(dtype)


@given(PLANES, st.sampled_from(["u2", "i2", "u4", "i8", "u8", "f4", "f8", ">u2", ">f4"]))
def test_a_copy_in_another_type_is_the_same_image(pixels, dtype):
    assert hash_of(pixels.astype(dtype)) == hash_of(pixels)


@pytest.mark.parametrize("letter", "CS")
def test_grey_saved_as_colour_is_the_same_image(letter):
    assert hash_of(np.stack([noise(0)] * 3, axis=-1), f"YX{letter}") == hash_of(noise(0))


def test_channels_in_another_order_or_some_of_them_are_known_again():
    whole = hash_of(np.stack([noise(0), noise(1), noise(2)]), "CYX")
    assert len(whole) == 3
    assert hash_of(np.stack([noise(2), noise(0), noise(1)]), "CYX") == whole
    assert set(hash_of(noise(1, "f4"))) < set(whole)


def test_an_empty_channel_with_a_hot_pixel_tells_no_image():
    """Two images of one camera may well share it."""
    empty = np.zeros((30, 40), "u1")
    empty[3, 4] = 255
    first, second = (hash_of(np.stack([noise(n), empty]), "CYX") for n in (0, 1))
    assert set(first).isdisjoint(second)
    assert first == hash_of(noise(0))


@given(PLANES, st.data())
def test_one_other_pixel_is_another_image(pixels, data):
    changed = pixels.copy()
    changed.flat[data.draw(st.integers(0, pixels.size - 1))] ^= 1
    assert hash_of(changed) != hash_of(pixels)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros((4, 6)), np.zeros((6, 4))),
        (np.array([[0.25, 0.5]]), np.array([[0.0, 0.0]])),
        (np.array([[-1, 0]]), np.array([[1, 0]])),
        (np.array([[np.nan, 1]]), np.array([[0, 1.0]])),
        (np.array([[2**63, 0]], np.uint64), np.array([[0, 0]], np.uint64)),
    ],
)
def test_other_values_or_shapes_are_other_images(first, second):
    assert hash_of(first) != hash_of(second)


def test_rows_far_down_count():
    tall = np.zeros((1300, 2), np.uint8)
    changed = tall.copy()
    changed[1299, 1] = 1
    assert hash_of(tall) != hash_of(changed)


def test_half_precision_at_its_limit_is_read_without_overflow():
    assert hash_of(np.full((2, 2), 65504, np.float16)) == hash_of(np.full((2, 2), 65504, "u2"))


def test_several_planes_have_no_single_hash():
    with pytest.raises(AxesError, match="2 planes"):
        hash_of(np.zeros((2, 3, 3)), "ZYX")


HASHES = st.integers(0, 2**64 - 1).map("{:016x}".format)


@given(st.dictionaries(HASHES, st.sampled_from(SPLITS)))
def test_a_list_comes_back_from_its_array(splits):
    array = SeenImages(splits).to_array()
    assert array.dtype == np.uint64
    assert array.shape == (len(splits), 2)
    assert SeenImages.from_array(array).splits == splits


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), "u8"), np.zeros((2, 2), "f8"), np.array([[1, 3]], "u8")]
)
def test_another_array_is_refused(array):
    with pytest.raises(InputError, match="lists no images"):
        SeenImages.from_array(array)


def test_an_image_in_two_splits_counts_as_trained_on():
    seen = SeenImages.of([("a", "test"), ("a", "train"), ("b", "test"), ("b", "validation")])
    assert seen.splits == {"a": "train", "b": "validation"}
    assert seen.split_of(["x", "b", "a"]) == "train"
    assert seen.split_of(["x"]) == ""


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SPLITS), st.sampled_from(["", "g", "h"]), st.sampled_from(["", *SPLITS])
        )
    )
)
def test_what_was_trained_on_is_never_tested(rows):
    splits, groups, before = ([row[n] for row in rows] for n in range(3))
    kept = keep_sides(splits, groups, before)
    known = {group for group, old in zip(groups, before, strict=True) if group and old}
    for new, split, group, old in zip(kept, splits, groups, before, strict=True):
        if old == "train":
            assert new == "train"
        if not old and group not in known:
            assert new == split
    for group in known:
        assert len({new for new, one in zip(kept, groups, strict=True) if one == group}) == 1


@pytest.mark.parametrize(
    ("seen_as", "role", "expected"),
    [
        ((), "test", None),
        (("", "test", ""), "test", None),
        ((), "train", ("error", "The model was trained on these images")),
        (("train",) * 3, "test", ("error", "The model was trained on these images")),
        (("train", "", ""), "test", ("error", "on 1 of these 3 images, so its accuracy is too hi")),
        (("", "validation", ""), "test", ("warning", "were chosen on 1 of these 3 images")),
        ((), "validation", ("warning", "were chosen on these images")),
    ],
)
def test_what_is_said_of_images_that_were_seen(seen_as, role, expected):
    found = seen_warning(seen_as, role, np.array([True, False, True]))
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found[0] == expected[0]
    assert expected[1] in found[1]


def test_the_accuracy_on_new_images_is_told():
    right = np.array([True, True, False, True])
    found = seen_warning(("train", "", "", "validation"), "test", right)
    assert found is not None
    assert found[1].endswith("on the other 3 it is 66.7 %.")
