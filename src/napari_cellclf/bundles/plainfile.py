"""Open a file that somebody else may have put there: a plain one, once, and never waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from napari_cellclf.errors import BundleError, UnsafeModelError
from napari_cellclf.io.regular_files import NotRegularError, open_regular

TRUNCATED = "is not a complete model file (truncated download?); get it again"


@contextmanager
def open_plain(path: Path, *, follow: bool = True) -> Iterator[IO[bytes]]:
    """Open a regular file for reading, and nothing else."""
    try:
        handle = open_regular(path, follow=follow)
    except NotRegularError as error:
        raise UnsafeModelError(
            f"{path.name} {error.strerror}; put the model itself there"
        ) from error
    except OSError as error:
        raise BundleError(
            f"{path.name} cannot be opened ({error.strerror}); check the path"
        ) from error
    with handle:
        yield handle


def read_up_to(handle: IO[bytes], count: int, name: str) -> bytes:
    """Read on from where a file stands.

    `count`: how many bytes at most. Returns fewer where the file ends.
    """
    try:
        # Nothing at all is what a special file says that would have to be waited for.
        return handle.read(count) or b""
    except OSError as error:
        raise BundleError(
            f"{name} cannot be read ({error.strerror or error}); check the disk, or get it again"
        ) from error


@dataclass(frozen=True)
class Span:
    """A stretch of an open file, read in place.

    `start`, `size`: where it lies in the file, in bytes.
    """

    #: Opened for reading in binary, seekable.
    handle: IO[bytes]
    #: What to call it in messages.
    name: str
    start: int
    size: int

    @classmethod
    def whole(cls, handle: IO[bytes], name: str) -> Span:
        """Return the stretch that is the whole file."""
        return cls(handle, name, 0, handle.seek(0, os.SEEK_END))

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes that must be there.

        `offset`, `count`: which bytes, counted from the beginning of the stretch. Returns exactly
        `count` of them.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise BundleError(f"{self.name} {TRUNCATED}")
        self.handle.seek(self.start + offset)
        content = read_up_to(self.handle, count, self.name)
        if len(content) != count:
            raise BundleError(f"{self.name} {TRUNCATED}")
        return content
