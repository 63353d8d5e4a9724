"""One image as training sees it, and the name of everything that its numbers depend on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.io.naming import named_image

_FORMAT = 2


@dataclass(frozen=True)
class Item:
    """One image as training sees it: a file, and by how much it is turned."""

    #: What `read_image` takes.
    path: str
    #: Counter-clockwise; 0 leaves the image as it is.
    degrees: float = 0.0
    #: How its file is named, as `read_image` takes it.
    naming: str | None = None


def way_key(preprocessing: Preprocessing, frame: str) -> str:
    """Name a way to prepare images."""
    made_by = f"{_FORMAT} {version('napari-cellclf')}"
    return _digest(f"{made_by}\n{preprocessing.model_dump_json()}\n{frame}")


def item_keys(items: Sequence[Item], preprocessing: Preprocessing, frame: str) -> tuple[str, ...]:
    """Name prepared images after everything that their numbers depend on, each by itself."""
    way = way_key(preprocessing, frame)
    stamped = cache(_stamped)
    return tuple(
        _digest(f"{way}\n{item.degrees!r}{stamped(item.path, item.naming)}") for item in items
    )


def _stamped(path: str, naming: str | None) -> str:
    # Absolute: another folder may have a file of the same name, size and time.
    return "".join(f"\t{os.path.abspath(file)}\t{_stamp(file)}" for file in _files_of(path, naming))  # noqa: PTH100


def _files_of(path: str, naming: str | None) -> list[str]:
    named = named_image(Path(path), naming)
    return [path] if named is None else [str(file) for file in named.files.values()]


def _stamp(file: str) -> str:
    try:
        found = os.stat(file)  # noqa: PTH116 - half the time of Path.stat, for many files
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
