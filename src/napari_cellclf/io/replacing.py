"""The one way to replace a file: it is written beside, and gets its name when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_cellclf.errors import CellclfError, InputError

REMEDY = "free some space, or choose a folder that exists and is writable"


@contextmanager
def refusals(
    path: Path, error: type[CellclfError] = InputError, remedy: str = REMEDY
) -> Iterator[None]:
    """Say in one sentence that a file cannot be written, where the disk refuses."""
    try:
        yield
    except OSError as refused:
        raise error(
            f"{path} cannot be written ({refused.strerror or refused}); {remedy}"
        ) from refused


@contextmanager
def replacing(
    path: Path, error: type[CellclfError] = InputError, remedy: str = REMEDY
) -> Iterator[Path]:
    """Yield where to write; what was at `path` stays until that is whole and on the disk.

    `error`, `remedy`: what is raised where the disk refuses, and what it says to do.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with refusals(path, error, remedy):
            yield beside
            with beside.open("r+b") as written:
                os.fsync(written.fileno())
            beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
