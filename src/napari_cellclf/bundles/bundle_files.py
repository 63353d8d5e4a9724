"""The files of a bundle, whether it is a folder or one zip."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from napari_cellclf.bundles.archive import open_archive
from napari_cellclf.bundles.plainfile import TRUNCATED, Span, open_plain
from napari_cellclf.errors import BundleError, UnsafeModelError

SPEC = "bundle.json"
WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
TEST_INPUT = "test_input.npy"
TEST_OUTPUT = "test_output.npy"
CARD = "README.md"

#: Every file a bundle may have, with its largest size in bytes.
LIMITS = {
    SPEC: 1 << 22,
    WEIGHTS: (1 << 31) - (1 << 22),
    # It holds the same weights again: where they are more than this (67 million), the smaller
    # bundle is worth more than the faster start. A zip with both stays below 2 GB so, too.
    GRAPH: 1 << 28,
    TEST_INPUT: 1 << 26,
    TEST_OUTPUT: 1 << 20,
    CARD: 1 << 20,
}
REQUIRED = (WEIGHTS, TEST_INPUT, TEST_OUTPUT)
OPTIONAL = (GRAPH,)

_CHUNK = 1 << 20


class Members(Protocol):
    """Read access to the files of a bundle."""

    def open(self, member: str) -> AbstractContextManager[Span]:
        """Open one file for reading."""
        ...

    def total_size(self) -> int:
        """Bytes of all files."""
        ...


class FolderMembers:
    """The files of a bundle that is a folder; others in it are not looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self, member: str) -> Iterator[Span]:
        """Open one file for reading."""
        path = self.folder / member
        try:
            path.lstat()
        except OSError as error:
            raise BundleError(f"{self.folder.name} lacks {member}: it {TRUNCATED}") from error
        with open_plain(path, follow=False) as handle:
            span = Span.whole(handle, f"{member} of {self.folder.name}")
            if span.size > LIMITS[member]:
                raise UnsafeModelError(f"{span.name} has {span.size} bytes; limit {LIMITS[member]}")
            yield span

    def total_size(self) -> int:
        """Bytes of all files."""
        paths = (self.folder / member for member in LIMITS)
        return sum(path.stat().st_size for path in paths if path.is_file())


class ZipMembers:
    """The files of a bundle that is one zip."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, member: str) -> Iterator[Span]:
        """Open one file for reading."""
        with open_plain(self.path) as handle:
            archive = open_archive(handle, self.path.name, LIMITS)
            if member == SPEC:
                # The one file that no hash in another stands for.
                archive.read(member)
            yield archive.span(member)

    def total_size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


def members_of(path: Path) -> Members:
    """Return access to the files of a bundle."""
    return FolderMembers(path) if path.is_dir() else ZipMembers(path)


def read_all(members: Members, member: str) -> bytes:
    """Read one file whole.

    Returns its content, within its limit.
    """
    with members.open(member) as span:
        return span.read(0, span.size)


def copy_and_hash(source: Span, target: IO[bytes] | None = None) -> str:
    """Read a file through, optionally into another, and hash what was read."""
    digest = hashlib.sha256()
    for place in range(0, source.size, _CHUNK):
        chunk = source.read(place, min(_CHUNK, source.size - place))
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()
