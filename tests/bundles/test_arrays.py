"""Test images from anywhere: plain numbers, or one line."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_cellclf.bundles.arrays import dump_array, parse_array
from napari_cellclf.errors import BundleError

WHOLE = dump_array(np.arange(12, dtype=np.uint16).reshape(3, 4))
TYPES = [f"{order}{code}" for order in "<>" for code in ("u2", "i4", "u8", "f2", "f4", "f8")]


@given(
    arrays.arrays(st.sampled_from(["?", "u1", "i1", *TYPES]), arrays.array_shapes(max_dims=5)),
    st.booleans(),
)
def test_what_numpy_writes_is_read(values: np.ndarray, by_columns: bool) -> None:
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(values) if by_columns else values)
    found = parse_array(stream.getvalue(), "it")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert found.flags.writeable


@pytest.mark.parametrize("values", [np.zeros((), "f4"), np.zeros((0, 3)), np.zeros((1,) * 8)])
def test_odd_shapes_are_read(values: np.ndarray) -> None:
    assert parse_array(dump_array(values), "it").shape == values.shape


def _with(header: str, version: int = 1, body: bytes = bytes(8)) -> bytes:
    form = "<H" if version == 1 else "<I"
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack(form, len(text)) + text + body


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def test_the_longer_header_is_read() -> None:
    assert parse_array(_with(PLAIN, 2), "it").tolist() == [0, 0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        WHOLE[:40],
        WHOLE[:-1],
        WHOLE + b"\0",
        pickle.dumps({"a": 1}),
        _with(PLAIN.replace("<f4", "|O")),
        _with(PLAIN.replace("<f4", "|V8")),
        _with(PLAIN.replace("<f4", "<U2")),
        _with(PLAIN.replace("<f4", "<c8")),
        _with(PLAIN.replace("<f4", "<M8")),
        _with(PLAIN.replace("'<f4'", "[('a', '<f4')]")),
        _with(PLAIN.replace("(2,)", "(-1, -2)")),
        _with(PLAIN.replace("(2,)", "(True, 2)")),
        _with(PLAIN.replace("(2,)", "(1180591620717411303424, 0)")),
        _with(PLAIN.replace("(2,)", f"({'1, ' * 70}2)")),
        _with(PLAIN.replace("(2,)", "(")),
        _with(PLAIN.replace("False", "__import__('os')")),
        _with(PLAIN.replace(", }", ", 'more': 1}")),
        _with(PLAIN, 3),
        _with(PLAIN + " " * 2000),
    ],
)
def test_anything_else_is_told(content: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        parse_array(content, "it")
    assert "\n" not in str(caught.value)


@settings(max_examples=500)
@given(place=st.integers(0, 127), text=st.binary(max_size=6), cut=st.integers(0, 6))
def test_bent_headers_are_told_or_numbers(place: int, text: bytes, cut: int) -> None:
    try:
        found = parse_array(WHOLE[:place] + text + WHOLE[place + cut :], "it")
    except BundleError:
        return
    assert found.dtype.kind in "buif"
    assert found.nbytes <= len(WHOLE)
