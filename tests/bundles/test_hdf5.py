"""The HDF5 structure of weights: whatever is bent in it, one of our own errors and nothing else."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from contextlib import suppress

import h5py
import hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.hdf5 import Weights, check_weights
from napari_cellclf.bundles.hdf5_parts import MAGIC, MAX_OBJECTS
from napari_cellclf.bundles.plainfile import Span
from napari_cellclf.bundles.values import read_array
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError


def _check(content: bytes) -> Weights:
    return check_weights(Span.whole(io.BytesIO(content), "model.keras"))


def _many(file: h5py.File) -> None:
    """More names than one node of a tree takes, and text of both kinds beside them."""
    for number in range(60):
        group = file.create_group(f"layers/layer_{number:03}/vars")
        group.attrs["name"] = f"layer_{number}"
        group.attrs["weight_names"] = np.array([b"kernel:0", b"bias:0"])
        group["0"] = np.full((2, 3), number, np.float32)


WHOLE = hostile.weights(_many)


def test_what_is_found_is_what_h5py_finds() -> None:
    span = Span.whole(io.BytesIO(WHOLE), "model.keras")
    found = check_weights(span)
    seen = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            seen[name] = item[()]

    with h5py.File(io.BytesIO(WHOLE)) as file:
        file.visititems(visit)
    assert found.arrays.keys() == seen.keys()
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(read_array(span, array), seen[name])
        assert array.size == math.prod(array.shape) == seen[name].size
    assert found.attributes["layers/layer_007/vars"] == {
        "name": (b"layer_7",),
        "weight_names": (b"kernel:0", b"bias:0"),
    }


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 4)])
def test_every_type_of_number(code: str, shape: tuple[int, ...]) -> None:
    values = np.arange(math.prod(shape), dtype=code).reshape(shape)
    content = hostile.weights(lambda file: file.__setitem__("more", values))
    span = Span.whole(io.BytesIO(content), "model.keras")
    array = check_weights(span).arrays["more"]
    assert array.dtype == values.dtype
    np.testing.assert_array_equal(read_array(span, array), values)


@settings(max_examples=400, deadline=None)
@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_flipped_bytes_are_told_or_harmless(flips: list[tuple[int, int]]) -> None:
    spoiled = bytearray(WHOLE)
    for place, value in flips:
        spoiled[place] = value
    _told_or_readable(bytes(spoiled))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(WHOLE) // 8 - 1), pointer=st.integers(0, len(WHOLE) // 8))
def test_pointers_to_anywhere_are_told_or_harmless(place: int, pointer: int) -> None:
    spoiled = bytearray(WHOLE)
    struct.pack_into("<Q", spoiled, 8 * place, 8 * pointer)
    _told_or_readable(bytes(spoiled))


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_told(length: int) -> None:
    with pytest.raises(ModelError):
        _check(WHOLE[:length])


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400))
def test_any_bytes_are_told(content: bytes) -> None:
    with pytest.raises(ModelError):
        _check(MAGIC + content)


def _told_or_readable(content: bytes) -> None:
    """Refused in one line, or of a form that the HDF5 library reads as the same, or not at all."""
    try:
        found = _check(content)
    except ModelError:
        return
    # The order of names in a tree may be wrong, or a fill value, so that Keras cannot read it.
    with suppress(KeyError, OSError), h5py.File(io.BytesIO(content)) as file:
        for name, array in found.arrays.items():
            assert (file[name].shape, file[name].dtype) == (array.shape, array.dtype)


def _bent(bend: Callable[[bytearray], None]) -> bytes:
    content = bytearray(hostile.weights())
    bend(content)
    return bytes(content)


def _tree_of_itself(content: bytearray) -> None:
    tree = content.index(b"TREE")
    content[tree + 5] = 1
    struct.pack_into("<Q", content, tree + 32, tree)


def _free_list_of_itself(content: bytearray) -> None:
    """The library follows this until the memory is full (HDF5 1.14.6)."""
    heap = content.index(b"HEAP")
    free, where = struct.unpack_from("<QQ", content, heap + 16)
    struct.pack_into("<Q", content, where + free, free)


def _names_of_a_gigabyte(content: bytearray) -> None:
    struct.pack_into("<Q", content, content.index(b"HEAP") + 8, 1 << 30)


def _names_beyond_the_end(content: bytearray) -> None:
    struct.pack_into("<Q", content, content.index(b"HEAP") + 24, len(content) - 4)


def _header_of_a_gigabyte(content: bytearray) -> None:
    root = struct.unpack_from("<Q", content, 64)[0]
    struct.pack_into("<I", content, root + 8, 1 << 30)


def _header_that_goes_on_in_itself(content: bytearray) -> None:
    root = struct.unpack_from("<Q", content, 64)[0]
    struct.pack_into("<H", content, root + 2, 100)
    struct.pack_into("<HHB3xQQ", content, root + 16, 0x10, 16, 0, root + 16, 24)


def _other_group_in_the_superblock(content: bytearray) -> None:
    """The library goes by the copy of the root's address that stands in the superblock."""
    struct.pack_into("<Q", content, 80, struct.unpack_from("<Q", content, 80)[0] + 8)


def _dimensions_that_overflow(content: bytearray) -> None:
    place = content.index(struct.pack("<QQ", 16, 2))
    struct.pack_into("<QQ", content, place, 1 << 33, 1 << 33)


@pytest.mark.parametrize(
    ("bend", "error", "message"),
    [
        (_tree_of_itself, UnsafeModelError, "in a circle"),
        (_free_list_of_itself, BundleError, "damaged"),
        (_names_of_a_gigabyte, UnsafeModelError, "more beside their numbers"),
        (_names_beyond_the_end, BundleError, "damaged"),
        (_header_of_a_gigabyte, UnsafeModelError, "more beside their numbers"),
        (_header_that_goes_on_in_itself, UnsafeModelError, "in a circle"),
        (_other_group_in_the_superblock, BundleError, "damaged"),
        (_dimensions_that_overflow, UnsafeModelError, "does not hold"),
    ],
)
def test_structures_that_keep_a_reader_busy(
    bend: Callable[[bytearray], None], error: type[ModelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        _check(_bent(bend))


def _written(**options: object) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        file["a"] = np.zeros(3, np.float32)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"userblock_size": 512}])
def test_other_forms_of_hdf5_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        _check(_written(**options))


def test_bytes_before_and_after_are_refused() -> None:
    whole = hostile.weights()
    for content in (b"\0" * 512 + whole, whole + b"\0"):
        with pytest.raises(BundleError, match="damaged"):
            _check(content)


def test_groups_in_order_of_writing_are_refused() -> None:
    def ordered(file: h5py.File) -> None:
        file.create_group("new", track_order=True)

    with pytest.raises(UnsafeModelError, match="another form of HDF5"):
        _check(hostile.weights(ordered))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.zeros(2, bool), None),
        (np.zeros(2, ">f4"), None),
        (np.zeros(2, np.complex64), None),
        (np.zeros(2, "S4"), None),
        (np.array([np.zeros(2), np.zeros(3)], dtype=object), h5py.vlen_dtype(np.float32)),
        (np.zeros(2, np.int8), h5py.enum_dtype({"a": 0}, "i1")),
        (np.zeros(2, "V8"), None),
    ],
)
def test_what_is_no_plain_number_is_refused(value: object, dtype: object) -> None:
    content = hostile.weights(lambda file: file.create_dataset("x", data=value, dtype=dtype))
    with pytest.raises(UnsafeModelError, match="instead of numbers"):
        _check(content)


def test_large_attributes_are_refused() -> None:
    def large(file: h5py.File) -> None:
        file.attrs["text"] = "x" * (1 << 21)

    with pytest.raises(UnsafeModelError, match="more beside their numbers"):
        _check(hostile.weights(large))


def test_two_arrays_in_one_place_cannot_declare_more_than_the_file() -> None:
    def twice(file: h5py.File) -> None:
        for number in range(40):
            file[f"big/{number}"] = np.zeros(1 << 10, np.float32)

    content = bytearray(hostile.weights(twice))
    # Each layout message: version 3, contiguous, address, size. All to the first one's place.
    pattern = struct.pack("<Q", 1 << 12)
    first = None
    place = content.find(pattern)
    while place >= 0:
        if content[place - 10 : place - 8] == b"\x03\x01":
            first = first or content[place - 8 : place]
            content[place - 8 : place] = first
        place = content.find(pattern, place + 1)
    shorter = bytes(content)
    assert len(_check(shorter).arrays) == 42
    cut = bytearray(shorter)
    struct.pack_into("<Q", cut, 40, len(cut) - 80_000)
    with pytest.raises(ModelError):
        _check(bytes(cut[: len(cut) - 80_000]))


def test_too_many_objects_are_refused_in_bounded_time() -> None:
    def many(file: h5py.File) -> None:
        for number in range(MAX_OBJECTS + 10):
            file.create_group(str(number))

    with pytest.raises(UnsafeModelError, match=r"hold over|more beside"):
        _check(hostile.weights(many))
