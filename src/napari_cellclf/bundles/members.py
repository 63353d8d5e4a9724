"""The files of a bundle, whether it is a folder or one zip."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from napari_cellclf.bundles.archive import TRUNCATED, open_archive
from napari_cellclf.errors import BundleError, UnsafeModelError

SPEC = "bundle.json"
NETWORK = "model.keras"
TEST_INPUT = "test_input.npy"
TEST_OUTPUT = "test_output.npy"
CARD = "README.md"

#: Every file a bundle may have, with its largest size in bytes.
LIMITS = {
    SPEC: 1 << 22,
    NETWORK: 1 << 32,
    TEST_INPUT: 1 << 28,
    TEST_OUTPUT: 1 << 24,
    CARD: 1 << 20,
}
REQUIRED = (NETWORK, TEST_INPUT, TEST_OUTPUT)

_CHUNK = 1 << 20


class Members(Protocol):
    """Read access to the files of a bundle."""

    def open(self, member: str) -> AbstractContextManager[IO[bytes]]:
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
    def open(self, member: str) -> Iterator[IO[bytes]]:
        """Open one file for reading."""
        path = self.folder / member
        try:
            found = path.lstat()
        except OSError as error:
            raise BundleError(f"{self.folder.name} lacks {member}: it {TRUNCATED}") from error
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeModelError(f"{member} of {self.folder.name} is a link, not a plain file")
        if found.st_size > LIMITS[member]:
            raise UnsafeModelError(
                f"{member} of {self.folder.name} has {found.st_size} bytes; limit {LIMITS[member]}"
            )
        with path.open("rb") as handle:
            yield handle

    def total_size(self) -> int:
        """Bytes of all files."""
        paths = (self.folder / member for member in LIMITS)
        return sum(path.stat().st_size for path in paths if path.is_file())


class ZipMembers:
    """The files of a bundle that is one zip."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, member: str) -> Iterator[IO[bytes]]:
        """Open one file for reading."""
        with self.path.open("rb") as handle:
            archive = open_archive(handle, self.path.name, LIMITS)
            if member not in archive.namelist():
                raise BundleError(f"{self.path.name} lacks {member}: it {TRUNCATED}")
            try:
                with archive.open(member) as stream:
                    yield stream
            except (zipfile.BadZipFile, EOFError) as error:
                raise BundleError(
                    f"{member} in {self.path.name} is damaged; get the file again"
                ) from error

    def total_size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


def members_of(path: Path) -> Members:
    """Return access to the files of a bundle.

    Parameters
    ----------
    path : Path
        A folder or a zip that exists.

    Returns
    -------
    Members
        Nothing has been read from it yet.
    """
    return FolderMembers(path) if path.is_dir() else ZipMembers(path)


def read_all(members: Members, member: str) -> bytes:
    """Read one file whole.

    Parameters
    ----------
    members : Members
        Of a bundle.
    member : str
        Which file.

    Returns
    -------
    bytes
        Its content, within its limit.
    """
    with members.open(member) as stream:
        content = stream.read(LIMITS[member] + 1)
    if len(content) > LIMITS[member]:
        raise UnsafeModelError(f"{member} is larger than {LIMITS[member]} bytes")
    return content


def copy_and_hash(source: IO[bytes], target: IO[bytes] | None = None) -> str:
    """Read a file through, optionally into another, and hash what was read.

    Parameters
    ----------
    source : file
        Opened for reading in binary.
    target : file, optional
        Opened for writing in binary.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()
