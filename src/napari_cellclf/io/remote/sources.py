"""What every place that files are fetched from has in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.checksum import Checksum


@dataclass(frozen=True)
class Answer:
    """What a place sends when it is asked for a file, opened."""

    #: Takes a number of bytes and returns at most so many, none at the end.
    read: Callable[[int], bytes]
    #: Which byte of the file comes first: 0 where the place would not send the rest alone.
    start: int = 0
    #: Bytes of the whole file, None if the place does not say.
    total: int | None = None
    #: Names this very version of the file, so that the rest of no other is put behind it; None
    #: where the place has no such name, and a broken download begins anew.
    tag: str | None = None


class Source(Protocol):
    """A place that a file can be fetched from."""

    def open(self, start: int, tag: str | None) -> AbstractContextManager[Answer]:
        """Ask for the file from a byte on, if it is still the version that `tag` names."""
        ...

    def published(self) -> Checksum | None:
        """Return the checksum that the publisher states, known once the file was opened."""
        ...


class PassingFault(Exception):
    """Something went wrong that may be well in a moment."""

    def __init__(self, error: DownloadError, wait: float = 0.0, *, anew: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait
        self.anew = anew
