"""How far a table has come, beside its rows, so that the same command goes on after a kill.

The journal is a file of JSON lines: first what the work is, then, once a second, how many images
and rows are on the disk, and which images failed since the line before. Rows that were written
after the last line are computed again, so that none is lost and none is there twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.io.sources import ImageSource

_FORMAT = 1
#: Seconds between two lines: what a kill costs at most.
_EVERY = 1.0

Bad = tuple[str, str]


@dataclass(frozen=True)
class Earlier:
    """What an earlier process did of the same work."""

    #: Images that are finished.
    done: int = 0
    #: Their rows in the partial table.
    rows: int = 0
    #: The images among them that failed, and why.
    bad: tuple[Bad, ...] = ()


def journal_path(table: Path) -> Path:
    """Return where it is written how far a table has come.

    Examples
    --------
    >>> journal_path(Path("predictions.csv")).name
    'predictions.partial.jsonl'
    """
    return table.with_name(f"{table.stem}.partial.jsonl")


def work_key(
    model: Sequence[str],
    mapping: Mapping[str, str | None] | None,
    columns: Sequence[str],
    sources: Sequence[ImageSource],
) -> str:
    """Hash what decides the rows of a table: model and engine, channels, columns and images.

    The size of a batch is not part of it, so that work that ran out of memory can go on with a
    smaller one.
    """
    digest = hashlib.sha256(_line([list(model), dict(mapping or {}), list(columns)]))
    for source in sources:
        digest.update(_line([source.id, dict(source.metadata)]))
    return digest.hexdigest()


class Journal:
    """Remembers how far a table has come."""

    def __init__(self, path: Path, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._key = key
        self._clock = clock
        self._file: IO[bytes] | None = None
        self._next = 0.0

    def earlier(self, rows: int) -> Earlier:
        """Return what an earlier process did of this work."""
        first, *lines = _read(self.path) or [None]
        if not isinstance(first, dict):
            return Earlier()
        if first != self._heading():
            raise InputError(
                f"{self.path} is about another model or engine, other channels or other images; "
                "add --overwrite to start again, or choose another --out"
            )
        found, bad = Earlier(), []
        for line in lines:
            bad += [(str(image), str(reason)) for image, reason in line["bad"]]
            if line["rows"] <= rows:
                found = Earlier(line["done"], line["rows"], tuple(bad))
        return found

    def begin(self, earlier: Earlier) -> None:
        """Start again, with what was done earlier as the first line."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        lines = [self._heading(), _state(earlier.done, earlier.rows, earlier.bad)]
        beside.write_bytes(b"".join(map(_line, lines)))
        beside.replace(self.path)
        self._file = self.path.open("ab")

    def is_due(self) -> bool:
        """Whether it is time for another line."""
        return self._clock() >= self._next

    def add(self, done: int, rows: int, bad: Sequence[Bad]) -> None:
        """Write a line; the rows that it speaks of must be on the disk."""
        if self._file is not None:
            self._file.write(_line(_state(done, rows, bad)))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._next = self._clock() + _EVERY

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Forget all of it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _heading(self) -> dict[str, Any]:
        return {"format": _FORMAT, "work": self._key}


def _state(done: int, rows: int, bad: Sequence[Bad]) -> dict[str, Any]:
    return {"done": done, "rows": rows, "bad": [list(one) for one in bad]}


def _line(document: Any) -> bytes:
    return json.dumps(document, default=str, sort_keys=True).encode("ascii") + b"\n"


def _read(path: Path) -> list[Any]:
    """Return the lines up to the first that is not whole."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    documents = []
    # What comes after the last line's end was cut off.
    for line in lines[:-1]:
        try:
            documents.append(json.loads(line))
        except ValueError:
            break
    return documents
