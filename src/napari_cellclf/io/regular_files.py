"""The one way to open a file that somebody else may have put there: a regular one, never waiting.

A pipe without a writer would be waited for for ever, and opening a device may already do something.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

# A pipe without a writer would otherwise wait for one; Windows has neither pipes nor flags.
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NotRegularError(OSError):
    """What is there is not a regular file, or is a link where none is followed."""


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading in binary; any other kind is an OSError.

    `follow`: whether the path may be a link to the file.
    """
    flags = os.O_RDONLY | _NEVER_WAIT | _BINARY | (0 if follow else _NO_LINK)
    try:
        # Asked before as well, since opening a device may already do something.
        _check_regular(path.stat(follow_symlinks=follow), path)
        descriptor = os.open(path, flags)
    except ValueError as error:
        # A name that holds NUL.
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    handle = os.fdopen(descriptor, "rb")
    try:
        # And again of what was opened, which nobody can exchange any more.
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        handle.close()
        raise
    return handle


def read_regular(path: Path, most: int | None = None, *, follow: bool = True) -> bytes:
    """Read a regular file; one of more than `most` bytes is an OSError."""
    with open_regular(path, follow=follow) as handle:
        if most is None:
            return handle.read()
        content = handle.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"is larger than {most} bytes", str(path))
    return content


def never_a_link(path: str, flags: int) -> int:
    """Open a file to write to, as an `opener` does, but never through a link to somebody's other.

    Returns its descriptor.
    """
    return os.open(path, flags | _NO_LINK, 0o666)


def _check_regular(found: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    what = "a link" if stat.S_ISLNK(found.st_mode) else "a folder, pipe or device"
    raise NotRegularError(errno.EINVAL, f"is {what}, not a plain file", str(path))
