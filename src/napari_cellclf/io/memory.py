"""Files that are not on a disk: what somebody sent, under the name that messages call it by."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TypeAlias


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

    def open(self) -> BytesIO:
        """Give a stream of the bytes, which are not copied."""
        return BytesIO(self.content)

    def read_bytes(self) -> bytes:
        """Return the bytes, as `pathlib.Path` does."""
        return self.content


#: Where the readers of single files read from.
AnyFile: TypeAlias = Path | MemoryFile


def read_head(file: AnyFile, count: int) -> bytes:
    """Read the first bytes of a file.

    Returns fewer if it is shorter.
    """
    if isinstance(file, MemoryFile):
        return file.content[:count]
    with file.open("rb") as handle:
        return handle.read(count)


def size_of(file: AnyFile) -> int:
    """Return the number of bytes of a file.

    Returns of the file as it lies there, not of its pixels.
    """
    return file.size if isinstance(file, MemoryFile) else file.stat().st_size
