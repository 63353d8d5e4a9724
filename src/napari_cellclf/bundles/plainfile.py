"""Open a file that somebody else may have put there: a plain one, once, and never waiting."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from napari_cellclf.errors import BundleError, UnsafeModelError

TRUNCATED = "is not a complete model file (truncated download?); get it again"

# A pipe without a writer would otherwise wait for one; Windows has neither pipes nor flags.
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def open_plain(path: Path, *, follow: bool = True) -> Iterator[IO[bytes]]:
    """Open a regular file for reading, and nothing else."""
    if not follow and path.is_symlink():
        raise UnsafeModelError(f"{path.name} is a link, not a plain file; put the file there")
    try:
        # Asked before as well, since opening a device may already do something.
        _check_regular(path.stat(), path)
        flags = os.O_RDONLY | _NEVER_WAIT | _BINARY | (0 if follow else _NO_LINK)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path.name} cannot be opened ({reason}); check the path") from error
    with os.fdopen(descriptor, "rb") as handle:
        # And again of what was opened, which nobody can exchange any more.
        _check_regular(os.fstat(descriptor), path)
        yield handle


def _check_regular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeModelError(
            f"{path.name} is not a plain file but a folder, pipe or device; give a model"
        )


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
