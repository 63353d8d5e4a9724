"""Copy from this computer, a mounted folder or a share on the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.addresses import FileAddress
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.sources import Answer


@dataclass(frozen=True)
class FileSource:
    """A file that can be opened by its path."""

    #: Its path.
    address: FileAddress

    @contextmanager
    def open(self, start: int, tag: str | None) -> Iterator[Answer]:
        """Open the file, always at its beginning: copying it again costs little."""
        path = self.address.path
        try:
            # A pipe or a device would be waited for.
            if not path.is_file():
                raise DownloadError(f"there is no file {path}; check the path, and its drive")
            with path.open("rb") as file:
                yield Answer(file.read, total=path.stat().st_size)
        except OSError as error:
            raise DownloadError(
                f"{path} cannot be read ({error.strerror or error}); check the drive or share"
            ) from error

    def published(self) -> Checksum | None:
        """Return None: a path says nothing of what lies there."""
        return None
