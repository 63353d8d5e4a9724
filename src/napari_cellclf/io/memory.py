"""Files that are not on a disk: what somebody sent, under the name that messages call it by."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, TypeAlias

from napari_cellclf.io.regular_files import open_regular, read_regular


@dataclass(frozen=True)
class MemoryFile:
    """Bytes that are read like a file; nothing of that name is ever opened.

    Examples
    --------
    >>> str(MemoryFile("B02_s1_w1.png", b"")), MemoryFile("x.png", b"123").size
    ('B02_s1_w1.png', 3)
    """

    #: What it was called; the end of a path at most.
    name: str
    #: The whole file.
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content)


#: Where the readers of single files read from.
AnyFile: TypeAlias = Path | MemoryFile


def read_head(file: AnyFile, count: int) -> bytes:
    """Read the first bytes of a file.

    Returns fewer if it is shorter.
    """
    if isinstance(file, MemoryFile):
        return file.content[:count]
    with open_regular(file) as handle:
        return handle.read(count)


def read_whole(file: AnyFile) -> bytes:
    """Read all bytes of a file, which must be a regular one."""
    return file.content if isinstance(file, MemoryFile) else read_regular(file)


class _Alone(BufferedReader):
    """A stream that hides which file it is of, so that a reader cannot look beside it."""

    def fileno(self) -> int:
        raise OSError("a stream")


def stream_of(file: AnyFile) -> IO[bytes]:
    """Open a stream of the bytes of a file, and of nothing else."""
    if isinstance(file, MemoryFile):
        return BytesIO(file.content)
    return _Alone(open_regular(file).detach())


def size_of(file: AnyFile) -> int:
    """Return the number of bytes of a file.

    Returns of the file as it lies there, not of its pixels.
    """
    return file.size if isinstance(file, MemoryFile) else file.stat().st_size
