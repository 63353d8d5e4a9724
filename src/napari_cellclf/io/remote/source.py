"""What all sources of files have in common, limits of a download, and files on this computer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.addresses import FileAddress
from napari_cellclf.io.remote.checksum import Checksum

#: Environment variable that forbids the network.
OFFLINE_VARIABLE = "CELLCLF_OFFLINE"


@dataclass(frozen=True)
class Rules:
    """Limits of a download.

    Parameters
    ----------
    stall_seconds : float
        Longest silence of a server, and the time over which its speed is judged.
    slowest : float
        Bytes per second below which a server is given up.
    total_seconds : float
        Longest time for one file.
    max_redirects : int
        How often a server may point elsewhere.
    attempts : int
        How often a file is tried at one address when servers fail or connections break.
    first_wait : float
        Seconds before the second attempt; doubled before each further one.
    """

    stall_seconds: float = 20.0
    slowest: float = 1024.0
    total_seconds: float = 6 * 3600.0
    max_redirects: int = 5
    attempts: int = 4
    first_wait: float = 0.5


def is_offline(asked: bool = False) -> bool:
    """Whether the network must not be used.

    Examples
    --------
    >>> is_offline(True)
    True
    """
    return asked or os.environ.get(OFFLINE_VARIABLE, "").strip() not in ("", "0")


class Source(Protocol):
    """A place that a file can be fetched from."""

    def open(self, start: int, tag: str | None) -> AbstractContextManager[OpenFile]:
        """Request the file from a byte on, if it is still the version of `tag`."""
        ...

    def published(self) -> Checksum | None:
        """Return the checksum that the publisher states, known once the file was opened."""
        ...


@dataclass(frozen=True)
class OpenFile:
    """A file opened at its source."""

    #: Takes a number of bytes and returns at most as many; none at the end.
    read: Callable[[int], bytes]
    #: Which byte of the file comes first: 0 where the source would not send only the rest.
    start: int = 0
    #: Bytes of the whole file; None if the source does not say.
    total: int | None = None
    #: Identifies this version of the file, so that no rest of another is appended; None where the
    #: source has no such name, and a broken download starts from the beginning.
    tag: str | None = None


class PassingFault(Exception):
    """An error that may be gone at the next attempt."""

    def __init__(
        self, error: DownloadError, wait: float = 0.0, *, from_start: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait
        self.from_start = from_start


@dataclass(frozen=True)
class FileSource:
    """A file that can be opened by its path."""

    address: FileAddress

    @contextmanager
    def open(self, start: int, tag: str | None) -> Iterator[OpenFile]:
        """Open the file, always at its beginning: copying it again costs little."""
        path = self.address.path
        try:
            # A pipe or a device would be waited for.
            if not path.is_file():
                raise DownloadError(f"there is no file {path}; check the path, and its drive")
            with path.open("rb") as file:
                yield OpenFile(file.read, total=path.stat().st_size)
        except OSError as error:
            raise DownloadError(
                f"{path} cannot be read ({error.strerror or error}); check the drive or share"
            ) from error

    def published(self) -> Checksum | None:
        """Return None: a path states no checksum."""
        return None


def too_slow(where: str) -> DownloadError:
    """Make the error for a server that sends nothing, or too little."""
    return DownloadError(f"{where} is too slow to answer; try again on a better connection")
