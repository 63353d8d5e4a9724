"""JSON from anywhere: what parsing it costs does not depend on what stands in it."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.bundles.jsontext import MAX_DEPTH, MAX_GROUPS, parse_json
from napari_cellclf.errors import UnsafeModelError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_what_json_says_is_read(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        content = text.encode()
    except UnicodeEncodeError:
        with pytest.raises(UnsafeModelError):
            parse_json(json.dumps(value).encode(), "it")
        return
    assert parse_json(content, "it") == value


@given(st.binary(max_size=60) | st.text('{}[]",:\\u1dDe0', max_size=60).map(str.encode))
def test_any_bytes_are_told_or_read_as_json_reads_them(content: bytes) -> None:
    try:
        value = parse_json(content, "it")
    except UnsafeModelError:
        return
    assert value == json.loads(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b'{"a": 1, "\\u0061": 2}', "a key twice"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[1e999]", "1e999"),
        (b"[-1e999]", "-1e999"),
        (b"[" + b"9" * 5000 + b"]", "not readable"),
        (b'["\\ud800"]', "not readable"),
        (b'{"\\udfff": 1}', "not readable"),
        ('{"a": 1}'.encode("utf-16"), "not readable"),
        ('{"a": 1}'.encode("utf-32"), "not readable"),
        (b'\xef\xbb\xbf{"a": 1}', "not readable"),
        (b'"\xed\xa0\x80"', "not readable"),
        (b"[1] [2]", "not readable"),
        (b"", "not readable"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b'["\\\\", [' + b"[" * MAX_DEPTH, "nested deeper"),
        (b"[" + b"[]," * MAX_GROUPS + b"[]]", "holds more"),
        (b"[" + b"0," * 200_001 + b"0]", "holds more"),
        (b"{" * 1_000_000, "holds more"),
    ],
)
def test_bent_json_is_told(content: bytes, message: str) -> None:
    with pytest.raises(UnsafeModelError, match=message) as caught:
        parse_json(content, "it")
    assert "\n" not in str(caught.value)


def test_brackets_in_texts_are_not_counted() -> None:
    value = {"\\": '"[' * 200, '"{': "[[[[" * 100}
    assert parse_json(json.dumps(value).encode(), "it") == value


def test_half_a_character_that_is_whole_again_is_read() -> None:
    assert parse_json(b'["\\ud83d\\ude00"]', "it") == ["\N{GRINNING FACE}"]


@pytest.mark.parametrize("unit", [b'"",', b"0,", b'"a' + b"\\n" * 20 + b'",', b"1.5,", b"{},"])
def test_memory_is_bounded(unit: bytes) -> None:
    content = b"[" + unit * ((1 << 22) // len(unit)) + b"0]"
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeModelError):
            # Too many items, or with its end cut off, so that no case is simply read.
            parse_json(content[:-1], "it")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
