"""The pieces an HDF5 file is made of, as the HDF5 library writes them by default (version 0).

Read in plain Python, because the library itself is made for speed on files that one trusts: a
free list that points back at itself takes memory without end, and a tree that does ends the process
(seen with HDF5 1.14.6). What is named here follows the HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from napari_cellclf.bundles.plainfile import Span
from napari_cellclf.errors import BundleError, UnsafeModelError

MAGIC = b"\x89HDF\r\n\x1a\n"
NOWHERE = 0xFFFFFFFFFFFFFFFF

MAX_OBJECTS = 8_000
#: Bytes of everything but numbers that are read at most.
MAX_READ = 1 << 24
_MAX_PIECE = 1 << 20
_MAX_BLOCKS = 64

# Versions and sizes of addresses; how many entries a node of a tree, and of a leaf, has room for.
_SUPERBLOCK = struct.Struct("<8s8s4sI4Q")
_FORM, _FILL = bytes((0, 0, 0, 0, 0, 8, 8, 0)), bytes((4, 0, 16, 0))
_IN_LEAF, _IN_NODE = 2 * 4, 2 * 16
_OTHER_FORM = "are in another form of HDF5 than the one Keras writes; save them again"
_ENTRY = struct.Struct("<QQI4x16s")
_TREE = struct.Struct("<4sBBHQQ")
_KEYS = struct.Struct(f"<{2 * _IN_NODE + 1}Q")
_HEADER = struct.Struct("<BxHII4x")
_MESSAGE = struct.Struct("<HHB3x")
_HEAP = struct.Struct("<4sB3xQQQ")
_COLLECTION = struct.Struct("<4sB3xQ")


def _integer(code: str) -> bytes:
    dtype = np.dtype(code)
    signed = 8 if dtype.kind == "i" else 0
    return struct.pack("<BBBBIHH", 0, signed, 0, 0, dtype.itemsize, 0, 8 * dtype.itemsize)


def _floating(code: str, exponent: int, mantissa: int) -> bytes:
    size = np.dtype(code).itemsize
    layout = (0, 8 * size, mantissa, exponent, 0, mantissa, (1 << (exponent - 1)) - 1)
    return struct.pack("<BBBBIHHBBBBI", 1, 0x20, 8 * size - 1, 0, size, *layout)


#: How each type of number that may stand in a weights file is written down.
NUMBERS = {
    **{_integer(code): np.dtype(code) for code in ("<i1", "<i2", "<i4", "<i8")},
    **{_integer(code): np.dtype(code) for code in ("<u1", "<u2", "<u4", "<u8")},
    _floating("<f2", 5, 10): np.dtype("<f2"),
    _floating("<f4", 8, 23): np.dtype("<f4"),
    _floating("<f8", 11, 52): np.dtype("<f8"),
}


@dataclass(frozen=True)
class Entry:
    """One name in a group."""

    #: The last part of a path.
    name: str
    #: Where its object header lies.
    header: int
    #: Where the entry says that the tree and names of that group lie; None if it does not.
    cached: bytes | None


@dataclass
class Pieces:
    """Reads pieces of the file, each once, and never more than a bounded amount."""

    #: The file.
    span: Span
    _read: int = 0
    _seen: set[int] = field(default_factory=set)
    _texts: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def damaged(self) -> NoReturn:
        """Say that a piece is not what it should be."""
        raise BundleError(f"the weights of {self.span.name} are damaged; get the file again")

    def refuse(self, what: str) -> NoReturn:
        """Say that there is something that does not belong in a file of weights."""
        raise UnsafeModelError(f"the weights of {self.span.name} {what}")

    def get(self, address: int, size: int) -> bytes:
        """Read a piece; its size is what the file says, and bounded."""
        self._read += size
        if size > _MAX_PIECE or self._read > MAX_READ:
            self.refuse("hold more beside their numbers than such files do; save them again")
        if address + size > self.span.size:
            self.damaged()
        return self.span.read(address, size)

    def once(self, address: int) -> None:
        """Note a piece that may only be met once, as in a tree."""
        if address in self._seen:
            self.refuse("point twice at one thing, or in a circle")
        self._seen.add(address)
        if len(self._seen) > 4 * MAX_OBJECTS:
            self.refuse(f"hold over {MAX_OBJECTS} objects")

    def root(self) -> Entry:
        """Read the superblock; return the outermost group."""
        if self.span.size < _SUPERBLOCK.size + _ENTRY.size:
            self.damaged()
        magic, form, fill, _, base, free, end, driver = _SUPERBLOCK.unpack(
            self.get(0, _SUPERBLOCK.size)
        )
        if magic != MAGIC:
            self.damaged()
        if (form, fill, base, free, driver) != (_FORM, _FILL, 0, NOWHERE, NOWHERE):
            self.refuse(_OTHER_FORM)
        if end != self.span.size:
            self.damaged()
        _, header, kind, scratch = _ENTRY.unpack(self.get(_SUPERBLOCK.size, _ENTRY.size))
        if kind not in (0, 1):
            self.damaged()
        return Entry("/", header, scratch if kind == 1 else None)

    def messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Read an object header: the kind and the content of each of its messages."""
        version, count, _, size = _HEADER.unpack(self.get(address, _HEADER.size))
        if version != 1 or count > 1 << 14:
            self.refuse(_OTHER_FORM)
        blocks = [(address + _HEADER.size, size)]
        for block in blocks:
            content, place = self.get(*block), 0
            while place + _MESSAGE.size <= len(content) and count:
                kind, length, flags = _MESSAGE.unpack_from(content, place)
                place += _MESSAGE.size
                message = content[place : place + length]
                place += length
                count -= 1
                if len(message) < length:
                    self.damaged()
                if flags & 0x02:
                    self.refuse("share a type between arrays, which Keras does not")
                if kind != 0x10:
                    yield kind, message
                    continue
                if length < 16 or len(blocks) >= _MAX_BLOCKS:
                    self.damaged()
                where, more = struct.unpack_from("<QQ", message)
                self.once(where)
                blocks.append((where, more))

    def entries(self, tree: int, heap: int) -> Iterator[Entry]:
        """Read the names of a group from its tree and its heap of names."""
        names = self._names(heap)
        pending = [(tree, -1)]
        while pending:
            address, level = pending.pop()
            self.once(address)
            signature, kind, found, used, *_ = _TREE.unpack(self.get(address, _TREE.size))
            if signature != b"TREE" or kind != 0 or level not in (-1, found) or used > _IN_NODE:
                self.damaged()
            # A key, a child, a key, a child, ..., a key; and room for more.
            numbers = _KEYS.unpack(self.get(address + _TREE.size, _KEYS.size))[: 2 * used + 1]
            if any(key >= len(names) for key in numbers[::2]):
                self.damaged()
            for child in numbers[1::2]:
                if found > 0:
                    pending.append((child, found - 1))
                else:
                    yield from self._leaf(child, names)

    def _leaf(self, address: int, names: bytes) -> Iterator[Entry]:
        self.once(address)
        content = self.get(address, 8 + _IN_LEAF * _ENTRY.size)
        signature, version, count = struct.unpack_from("<4sBxH", content)
        if signature != b"SNOD" or version != 1 or count > _IN_LEAF:
            self.damaged()
        for entry in _ENTRY.iter_unpack(content[8 : 8 + count * _ENTRY.size]):
            name, header, kind, scratch = entry
            end = names.find(b"\0", name)
            if not name < end:
                self.damaged()
            text = names[name:end].decode("utf-8", "replace")
            if kind not in (0, 1):
                self.refuse(f"hold a link to somewhere else ({text[:80]!r})")
            yield Entry(text, header, scratch if kind == 1 else None)

    def _names(self, address: int) -> bytes:
        self.once(address)
        signature, version, size, free, where = _HEAP.unpack(self.get(address, _HEAP.size))
        if signature != b"HEAP" or version != 0:
            self.damaged()
        names = self.get(where, size)
        # The library follows the list of free room wherever it leads; 1 ends it.
        steps = 0
        while free not in (1, NOWHERE):
            steps += 16
            if steps > size or free + 16 > size:
                self.damaged()
            start = free
            free, length = struct.unpack_from("<QQ", names, start)
            if start + length > size:
                self.damaged()
        return names

    def collection(self, address: int) -> dict[int, bytes]:
        """Read a global heap: texts of any length, by number."""
        if address in self._texts:
            return self._texts[address]
        signature, version, size = _COLLECTION.unpack(self.get(address, _COLLECTION.size))
        if signature != b"GCOL" or version != 1:
            self.damaged()
        content, place = self.get(address, size), _COLLECTION.size
        found: dict[int, bytes] = {}
        while place + 16 <= size:
            index, length = struct.unpack_from("<H6xQ", content, place)
            if index == 0:
                break
            place += 16
            if index in found or place + length > size:
                self.damaged()
            found[index] = content[place : place + length]
            place += length + -length % 8
        self._texts[address] = found
        return found
