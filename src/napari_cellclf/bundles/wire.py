"""The fields of a protocol buffer, found in a file without reading what they hold.

The encoding is that of https://protobuf.dev/programming-guides/encoding/: each field is a number, a
kind, and either a number or a length and as many bytes. Every length is held against what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from napari_cellclf.bundles.plainfile import Span
from napari_cellclf.errors import BundleError, UnsafeModelError

#: Fields that are looked at in one file: a bound of the time it takes.
MAX_FIELDS = 80_000
#: Texts and lists that are read, in bytes.
MAX_TEXT = 1 << 10
MAX_LIST = 1 << 13

_PAGE = 1 << 13
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    `start`, `size`: where its bytes lie in the file, of every other.
    """

    #: Which.
    number: int
    #: Its value, of a field that is a whole number.
    value: int | None
    start: int
    size: int


@dataclass
class Wire:
    """Finds fields in a file."""

    #: The file.
    span: Span
    _page: bytes = b""
    _page_start: int = 0
    _fields: int = field(default=0)

    def refuse(self, what: str) -> NoReturn:
        """Say that there is something that does not belong in such a file."""
        raise UnsafeModelError(f"{self.span.name} {what}")

    def damaged(self) -> NoReturn:
        """Say that the file is not what it should be."""
        raise BundleError(
            f"{self.span.name} is not a complete ONNX file (truncated download?); get it again"
        )

    def fields(self, start: int, size: int) -> Iterator[Field]:
        """Find the fields of the message that lies somewhere."""
        place, end = start, start + size
        while place < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                self.refuse(f"holds over {MAX_FIELDS} fields; only smaller networks can be loaded")
            key, place = self._varint(place, end)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, place = self._varint(place, end)
                yield Field(number, value, place, 0)
                continue
            if kind == _BYTES:
                length, place = self._varint(place, end)
            elif kind in _FIXED:
                length = _FIXED[kind]
            else:
                self.damaged()
            if number == 0 or place + length > end:
                self.damaged()
            yield Field(number, None, place, length)
            place += length

    def text(self, found: Field) -> str:
        """Read a short text."""
        if found.value is not None or found.size > MAX_TEXT:
            self.refuse("holds a name that is longer than names are")
        try:
            return self._bytes(found.start, found.size).decode("utf-8")
        except UnicodeDecodeError:
            self.damaged()

    def whole(self, found: Field) -> int:
        """Return a whole number, which may be negative."""
        if found.value is None:
            self.damaged()
        return _signed(found.value)

    def wholes(self, found: Field) -> list[int]:
        """Return a whole number, or a list of them that lies in one piece."""
        if found.value is not None:
            return [_signed(found.value)]
        if found.size > MAX_LIST:
            self.refuse("holds a list of numbers that is longer than such lists are")
        numbers, place, end = [], found.start, found.start + found.size
        while place < end:
            number, place = self._varint(place, end)
            numbers.append(_signed(number))
        return numbers

    def content(self, found: Field) -> bytes:
        """Read the bytes of a small field."""
        if found.size > MAX_LIST:
            self.refuse("holds a list of numbers that is longer than such lists are")
        return self._bytes(found.start, found.size)

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        """Read a number of up to ten bytes, of seven bits each."""
        number, shift = 0, 0
        while place < end and shift < 70:
            byte = self._byte(place)
            place += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number, place) if number < 1 << 64 else self.damaged()
            shift += 7
        self.damaged()

    def _byte(self, place: int) -> int:
        offset = place - self._page_start
        if not 0 <= offset < len(self._page):
            self._page = self.span.read(place, min(_PAGE, self.span.size - place))
            self._page_start, offset = place, 0
            if not self._page:
                self.damaged()
        return self._page[offset]

    def _bytes(self, start: int, size: int) -> bytes:
        offset = start - self._page_start
        if offset >= 0 and offset + size <= len(self._page):
            return self._page[offset : offset + size]
        return self.span.read(start, size)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
