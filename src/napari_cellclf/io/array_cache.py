"""Arrays on disk, each under a key of its own, that are mapped and not read.

They lie in parts: a file of float32 numbers and one of JSON that says what lies where, and the
checksum of each array. A part appears whole and never changes, so that several processes may add to
a cache at once; two that add the same array do so in two parts, and either is good.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.errors import CancelledError, DatasetError
from napari_cellclf.io.cache import delete_oldest, remove_abandoned
from napari_cellclf.io.regular_files import read_regular
from napari_cellclf.io.replacing import refusals

if TYPE_CHECKING:
    from numpy.typing import NDArray


_FORMAT = 4
_FLOAT = 4
#: A process that is killed loses what it has added in the last so many seconds.
_SECONDS = 30.0
_NUMBERS, _INDEX = ".f32", ".json"
#: Of an index, in bytes.
_MOST_INDEX = 1 << 28
_NO_SHAPE = (0, 0, 0)
#: What a damaged index raises when it is read.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class KeptArrays:
    """Arrays that lie on disk and are read as they are asked for."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        #: Why there is no array of a number, where that is known; its shape is all zeros. It is
        #: not kept: what could not be read today may be readable tomorrow.
        self.bad: dict[int, str] = {}
        #: What was noted of each array when it was made; ``""`` for nothing.
        self.notes = [""] * len(keys)
        #: How many were there, but are not what was written any more; they are missing.
        self.damaged = 0
        #: Where they lie.
        self.files: set[Path] = set()
        self.shapes: list[tuple[int, ...]] = [()] * len(keys)
        self._parts: list[NDArray[np.float32]] = []
        self._part = np.full(len(keys), -1)
        self._start = np.zeros(len(keys), np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int, /) -> NDArray[np.float32]:
        """Return one array without copying it; raises KeyError if it is missing."""
        if number in self.bad:
            return _NONE.reshape(_NO_SHAPE)
        if self._part[number] < 0:
            raise KeyError(self.keys[number])
        shape, start = self.shapes[number], self._start[number]
        part: NDArray[np.float32] = self._parts[self._part[number]]
        return part[start : start + int(np.prod(shape))].reshape(shape)

    @property
    def missing(self) -> list[int]:
        """Numbers that are not there, the first of each key."""
        first: dict[str, int] = {}
        for number in np.flatnonzero(self._part < 0):
            if number not in self.bad:
                first.setdefault(self.keys[number], int(number))
        return list(first.values())

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Say which arrays cannot be made."""
        for number, key in enumerate(self.keys):
            if key in reasons:
                self.bad[number] = reasons[key]
                self.shapes[number] = _NO_SHAPE

    def _take_from(self, part: _Part, wanted: dict[str, list[int]], known: set[Place]) -> bool:
        """Take from a part what is still wanted; return whether anything was in it.

        `known`: what was compared with its checksum before.
        """
        found = [(place, key) for place, key in enumerate(part.keys) if key in wanted]
        if not found:
            return False
        numbers = part.numbers()
        whole = []
        for place, key in found:
            if (part.file, place) in known or part.is_whole(numbers, place):
                known.add((part.file, place))
                whole.append((place, key))
        self.damaged += len(found) - len(whole)
        if not whole:
            return False
        self._parts.append(numbers)
        self.files.add(part.file)
        for place, key in whole:
            for number in wanted.pop(key, ()):
                self._part[number] = len(self._parts) - 1
                self._start[number] = part.starts[place]
                self.shapes[number] = part.shapes[place]
                self.notes[number] = part.notes[place]
        return True


#: A file of numbers, and which array in it.
Place = tuple[Path, int]


def damaged_in_words(count: int, noun: str = "image") -> str:
    """Say that features of images are computed again because they were damaged.

    Examples
    --------
    >>> damaged_in_words(1)
    'the features of 1 image in the cache had been changed or damaged; computed again'
    """
    what = counted(count, noun)
    return f"the features of {what} in the cache had been changed or damaged; computed again"


class ArrayCache:
    """A folder of arrays by key."""

    def __init__(self, folder: Path, group: str, most_bytes: int) -> None:
        self.folder = folder
        self._group = group
        self._most_bytes = most_bytes
        self._known: set[Place] = set()

    def find(self, keys: Sequence[str]) -> KeptArrays:
        """Look for arrays."""
        found = KeptArrays(keys)
        wanted: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            wanted.setdefault(key, []).append(number)
        for index in sorted(self.folder.glob(f"{self._group}-*{_INDEX}")):
            try:
                part = _Part(index)
                if wanted and found._take_from(part, wanted, self._known):
                    # Says which part was used last.
                    os.utime(part.file)
            except _DAMAGE:
                # Damaged, or another process has just made room.
                continue
        return found

    def find_all(
        self, keys: Sequence[str], bad: Mapping[str, str] = MappingProxyType({})
    ) -> KeptArrays:
        """Look for arrays that have just been added."""
        found = self.find(keys)
        found.leave_out(bad)
        if found.missing:
            raise DatasetError(
                f"{len(found.missing)} of {len(keys)} arrays are gone from {self.folder}, where "
                "another process makes room; start again when it has ended, or set CELLCLF_CACHE "
                "to another folder"
            )
        return found

    @contextmanager
    def adding(self, found: KeptArrays) -> Iterator[Adder]:
        """Add arrays; what was added is kept when the block is left, and if it is cancelled."""
        remedy = "free some space, or set CELLCLF_CACHE to another folder"
        with refusals(self.folder, DatasetError, remedy):
            yield from self._adding(found)

    def _adding(self, found: KeptArrays) -> Iterator[Adder]:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        for file in delete_oldest(
            self.folder.glob(f"*{_NUMBERS}"), self._most_bytes, spare=found.files
        ):
            file.with_suffix(_INDEX).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=self.folder) as beside:
            adder = Adder(Path(beside), self.folder, self._group)
            try:
                yield adder
            except CancelledError:
                adder.keep()
                raise
            else:
                adder.keep()
            finally:
                adder.close()


class Adder:
    """Writes arrays down, part by part."""

    def __init__(self, beside: Path, folder: Path, group: str) -> None:
        self._beside = beside
        self._folder = folder
        self._group = group
        self._file: BinaryIO | None = None
        self._index: dict[str, Any] = {}
        self._began = 0.0

    def add(self, key: str, array: NDArray[np.float32], note: str = "") -> None:
        """Add one array.

        `array`: ndarray of float32; its numbers. `note`: a short text to find beside them.
        """
        if self._file is None:
            self._file = (self._beside / "numbers").open("wb")
            self._index = {"format": _FORMAT, "keys": [], "shapes": [], "notes": [], "sums": []}
            self._began = time.monotonic()
        numbers = np.ascontiguousarray(array, np.float32)
        self._file.write(numbers.data)
        self._index["sums"].append(_checksum(numbers))
        self._index["keys"].append(key)
        self._index["shapes"].append(array.shape)
        self._index["notes"].append(note)
        if time.monotonic() - self._began > _SECONDS:
            self.keep()

    def keep(self) -> None:
        """Make what was added so far a part of the cache."""
        if self._file is None:
            return
        self.close()
        (self._beside / "index").write_text(json.dumps(self._index), encoding="utf-8")
        name = f"{self._group}-{uuid.uuid4().hex[:16]}"
        # The index last: where it is, the numbers are whole.
        (self._beside / "numbers").replace(self._folder / f"{name}{_NUMBERS}")
        (self._beside / "index").replace(self._folder / f"{name}{_INDEX}")

    def close(self) -> None:
        """Close the file of numbers."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _Part:
    """What an index says, if its numbers are all there."""

    def __init__(self, index: Path) -> None:
        said = json.loads(read_regular(index, _MOST_INDEX, follow=False))
        self.file = index.with_suffix(_NUMBERS)
        self.keys = [str(key) for key in said["keys"]]
        self.shapes = [tuple(int(side) for side in shape) for shape in said["shapes"]]
        self.notes = [str(note) for note in said["notes"]]
        self.sums = [int(one) for one in said["sums"]]
        sizes = [math.prod(shape) for shape in self.shapes]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        whole = self.file.stat().st_size == _FLOAT * self.starts[-1]
        possible = len(self.keys) == len(sizes) == len(self.notes) == len(self.sums)
        possible = possible and all(min(shape, default=0) >= 0 for shape in self.shapes)
        if said["format"] != _FORMAT or not possible or not whole:
            raise ValueError(f"{self.file} is not what {index} says")

    def is_whole(self, numbers: NDArray[np.float32], place: int) -> bool:
        """Whether an array is the one that was written, as far as a checksum tells."""
        return _checksum(numbers[self.starts[place] : self.starts[place + 1]]) == self.sums[place]

    def numbers(self) -> NDArray[np.float32]:
        total = int(self.starts[-1])
        return np.memmap(self.file, np.float32, "r", shape=(total,)) if total else _NONE


_NONE = np.zeros(0, np.float32)


def _checksum(numbers: NDArray[np.float32]) -> int:
    return zlib.crc32(numbers.reshape(-1).view(np.uint8).data)
