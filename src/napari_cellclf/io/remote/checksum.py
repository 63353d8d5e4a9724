"""Checksums of files, and the note beside a file that records its check."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.errors import CancelledError, InputError
from napari_cellclf.io.notes import read_note
from napari_cellclf.io.replacing import replacing

_DIGITS = {"sha256": 64, "md5": 32}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """A hash that a file must have.

    Parameters
    ----------
    algorithm : {'sha256', 'md5'}
        MD5 detects damage but not manipulation: only for publishers who state no other.
    digest : str
        In hexadecimal.

    Examples
    --------
    >>> str(Checksum("md5", "D41D8CD98F00B204E9800998ECF8427E"))
    'md5:d41d8cd98f00b204e9800998ecf8427e'
    """

    algorithm: Literal["sha256", "md5"]
    digest: str

    def __post_init__(self) -> None:
        digits = _DIGITS[self.algorithm]
        if not re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", self.digest):
            raise InputError(
                f"{self.digest[:80]!r} is not a {self.title} in hexadecimal; it has {digits} digits"
            )
        object.__setattr__(self, "digest", self.digest.lower())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"

    @property
    def title(self) -> str:
        """Its usual name."""
        return {"sha256": "SHA-256", "md5": "MD5"}[self.algorithm]

    def fits(self, path: Path, should_stop: ShouldStop = never_stop) -> bool:
        """Compare a file with the checksum.

        Parameters
        ----------
        path : Path
            The file.
        should_stop : callable
            Asked before every block.

        Returns
        -------
        bool
            Whether it is the file expected.

        Raises
        ------
        CancelledError
            If `should_stop` says so.
        """
        # Not for safety: `usedforsecurity` lets MD5 be had where a system forbids it otherwise.
        digest = hashlib.new(self.algorithm, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                if should_stop():
                    raise CancelledError(f"stopped while {path.name} was being checked")
                digest.update(block)
        return digest.hexdigest() == self.digest


def note_checked(path: Path, checksum: Checksum) -> None:
    """Record beside a file that its checksum was compared."""
    found = path.stat()
    note = {"checksum": str(checksum), "size": found.st_size, "mtime_ns": found.st_mtime_ns}
    # Without it the checksum is compared again next time.
    with suppress(InputError), replacing(note_path(path)) as beside:
        beside.write_text(json.dumps(note), encoding="utf-8")


def was_checked(path: Path, checksum: Checksum) -> bool:
    """Whether a file was compared with a checksum before and is unchanged since."""
    try:
        found = path.stat()
    except OSError:
        return False
    expected = {
        "checksum": str(checksum),
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
    }
    return read_note(note_path(path)) == expected


def note_path(path: Path) -> Path:
    """Return the path of the note about a file."""
    return path.with_name(f".{path.name}.checked.json")
