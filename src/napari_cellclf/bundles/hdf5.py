"""Look at an HDF5 file of weights before Keras does: plain arrays, really there, and nothing else.

Keras writes contiguous arrays without filters, in groups of the oldest form, so that links,
external or virtual data, chunks, fill values and object types can be refused altogether.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from napari_cellclf.bundles.hdf5_parts import MAX_OBJECTS, NOWHERE, NUMBERS, Entry, Pieces
from napari_cellclf.bundles.plainfile import Span

MAX_DEPTH = 40
MAX_DIMENSIONS = 8

_SPACE, _TYPE, _LAYOUT, _ATTRIBUTE, _GROUP = 0x01, 0x03, 0x08, 0x0C, 0x11
#: Fill values, modification times and empty room: nothing that would be followed.
_HARMLESS = (0x00, 0x04, 0x05, 0x12)
_REFUSED = {
    0x02: "link to somewhere else, or keep names in a way that Keras does not",
    0x06: "hold a link to somewhere else",
    0x07: "take data from another file",
    0x0B: "are not stored plainly, as Keras stores weights, but filtered",
}
_VARIABLE_TEXT, _FIXED_TEXT = 9, 3


@dataclass(frozen=True)
class Array:
    """Numbers in the file."""

    #: Their shape; all in one piece, the last axis running fastest.
    shape: tuple[int, ...]
    #: Their type.
    dtype: np.dtype[np.generic]
    #: Where they begin, in bytes from the start of the HDF5 file.
    offset: int

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        return self.size * self.dtype.itemsize


@dataclass
class Weights:
    """What is in an HDF5 file."""

    #: By path, such as ``"layers/dense/vars/0"``.
    arrays: dict[str, Array] = field(default_factory=dict)
    #: The texts beside each group or array, by its path and their name; the outermost group is
    #: ``""``.
    attributes: dict[str, dict[str, tuple[bytes, ...]]] = field(default_factory=dict)


def check_weights(span: Span) -> Weights:
    """Walk an HDF5 file and refuse whatever is not a plain array of numbers.

    The numbers themselves are not read.
    """
    return _Walk(span).run()


class _Walk:
    """Visits every object once and adds up what they declare."""

    def __init__(self, span: Span) -> None:
        self.pieces = Pieces(span)
        self.size = span.size
        self.found = Weights()
        self.objects = 0
        self.bytes = 0

    def run(self) -> Weights:
        pending: list[tuple[str, Entry, int]] = [("", self.pieces.root(), 0)]
        while pending:
            path, entry, depth = pending.pop()
            if depth > MAX_DEPTH:
                self.pieces.refuse("are nested too deeply")
            children = list(self._visit(path, entry))
            names = [child.name for child in children]
            if len(set(names)) < len(names):
                self.pieces.refuse("hold two things of the same name")
            above = f"{path}/" if path else ""
            pending += [(above + child.name, child, depth + 1) for child in children]
        return self.found

    def _visit(self, path: str, entry: Entry) -> Iterator[Entry]:
        """Look at an object; return what is in it, if it is a group."""
        self.pieces.once(entry.header)
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            self.pieces.refuse(f"hold over {MAX_OBJECTS} objects")
        messages = self._messages(path, entry.header)
        group = messages.get(_GROUP)
        if group is not None:
            # What the entry says of the group is what the library goes by.
            if len(group) < 16 or len(messages) > 1 or entry.cached not in (None, group[:16]):
                self.pieces.damaged()
            yield from self.pieces.entries(*struct.unpack_from("<QQ", group))
            return
        if set(messages) != {_SPACE, _TYPE, _LAYOUT} or entry.cached is not None:
            self.pieces.refuse(f"hold something that is no array of numbers ({path[-80:]!r})")
        self.found.arrays[path] = self._array(path, messages)

    def _messages(self, path: str, header: int) -> dict[int, bytes]:
        messages: dict[int, bytes] = {}
        for kind, content in self.pieces.messages(header):
            if kind == _ATTRIBUTE:
                self._attribute(path, content)
            elif kind in (_SPACE, _TYPE, _LAYOUT, _GROUP):
                if kind in messages:
                    self.pieces.damaged()
                messages[kind] = content
            elif kind not in _HARMLESS:
                self.pieces.refuse(_REFUSED.get(kind, "hold more than groups and arrays"))
        return messages

    def _array(self, path: str, messages: dict[int, bytes]) -> Array:
        what = f"array {path[-80:]!r}"
        dtype = _number(messages[_TYPE])
        if dtype is None:
            self.pieces.refuse(f"hold {what}, which has something else instead of numbers")
        shape = _shape(messages[_SPACE])
        if shape is None or len(shape) > MAX_DIMENSIONS:
            self.pieces.refuse(f"hold {what}, which is not stored plainly")
        layout = messages[_LAYOUT]
        if layout[:2] == b"\x04\x03":
            self.pieces.refuse(f"hold {what}, which takes its data from another file")
        if layout[:2] != b"\x03\x01" or len(layout) < 18:
            self.pieces.refuse(f"hold {what}, which is not stored plainly, as Keras stores weights")
        offset, stored = struct.unpack_from("<QQ", layout, 2)
        array = Array(shape, dtype, offset)
        self.bytes += array.nbytes
        there = offset != NOWHERE and offset + array.nbytes <= self.size
        if not (0 < array.nbytes == stored and there and self.bytes <= self.size):
            self.pieces.refuse(
                f"hold {what}, which declares {array.nbytes} bytes that the file does not hold"
            )
        return array

    def _attribute(self, path: str, content: bytes) -> None:
        """Keep an attribute if it is text; others are small, and no one follows them anywhere."""
        if len(content) < 8 or content[0] not in (1, 3) or content[1]:
            self.pieces.refuse("hold an attribute of a kind that Keras does not write")
        version, sizes = content[0], struct.unpack_from("<HHH", content, 2)
        place = 8 if version == 1 else 9
        parts = []
        for size in sizes:
            parts.append(content[place : place + size])
            place += size + (-size % 8 if version == 1 else 0)
        name, kind, space = parts
        shape = _shape(space)
        if shape is None or math.prod(shape) > MAX_OBJECTS or len(kind) < 8:
            self.pieces.refuse("hold an attribute of a kind that Keras does not write")
        texts = self._texts(kind, math.prod(shape), content[place:])
        if texts is not None:
            key = name.split(b"\0")[0].decode("utf-8", "replace")
            self.found.attributes.setdefault(path, {})[key] = texts

    def _texts(self, kind: bytes, count: int, data: bytes) -> tuple[bytes, ...] | None:
        size = struct.unpack_from("<I", kind, 4)[0]
        if size * count > len(data):
            self.pieces.damaged()
        if kind[0] & 0x0F == _FIXED_TEXT:
            return tuple(data[i * size : (i + 1) * size].rstrip(b"\0") for i in range(count))
        if kind[0] & 0x0F == _VARIABLE_TEXT:
            if kind[1] & 0x0F != 1 or size != 16:
                self.pieces.refuse("hold an attribute of a kind that Keras does not write")
            return tuple(
                self._text(*struct.unpack_from("<IQI", data, 16 * i)) for i in range(count)
            )
        if _number(kind) is None:
            self.pieces.refuse("hold an attribute of a kind that Keras does not write")
        return None

    def _text(self, length: int, address: int, index: int) -> bytes:
        if length == 0:
            return b""
        text = self.pieces.collection(address).get(index, b"")
        if len(text) < length:
            self.pieces.damaged()
        return text[:length].rstrip(b"\0")


def _number(message: bytes) -> np.dtype[np.generic] | None:
    # The version of the message, in its first four bits, says nothing about plain numbers.
    if not message or message[0] >> 4 not in (1, 3):
        return None
    kind = bytes((message[0] & 0x0F,)) + message[1:]
    return next((dtype for written, dtype in NUMBERS.items() if kind.startswith(written)), None)


def _shape(message: bytes) -> tuple[int, ...] | None:
    """Read a dataspace; None if it has none."""
    if len(message) < 4 or message[0] not in (1, 2) or (message[0] == 2 and message[3] == 2):
        return None
    rank, start = message[1], 8 if message[0] == 1 else 4
    if len(message) < start + 8 * rank:
        return None
    return struct.unpack_from(f"<{rank}Q", message, start)
