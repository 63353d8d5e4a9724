"""The folder where fetched and prepared files are kept, and what is deleted from it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from napari_cellclf.io.local_paths import expanded

#: Environment variable that names another folder.
CACHE_VARIABLE = "CELLCLF_CACHE"

#: Seconds without a change after which nobody writes to a file any more.
_ABANDONED = 3600


def cache_folder() -> Path:
    """Return the folder of fetched files; it need not exist yet."""
    stated = os.environ.get(CACHE_VARIABLE)
    if stated:
        return expanded(stated)
    from platformdirs import user_cache_path

    return user_cache_path("napari-cellclf", appauthor=False)


def fetched_folder() -> Path:
    """Return the folder of files from elsewhere that models were made of."""
    return cache_folder() / "fetched"


def keras_models_folder() -> Path:
    """Return the folder in which Keras looks for pretrained weights before it fetches them."""
    # As keras.src.backend.config does, which is not imported to ask for a path.
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed left half-written."""
    for partial in folder.glob(".*.partial"):
        try:
            last = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
        except OSError:
            # Its process has just finished it.
            continue
        if time.time() - last > _ABANDONED:
            shutil.rmtree(partial, ignore_errors=True)


def delete_oldest(files: Iterable[Path], most: int, *, spare: Collection[Path] = ()) -> list[Path]:
    """Delete the files that were not used for longest.

    `most`: how many bytes may stay.
    """
    found = []
    for file in files:
        # Another process may be making room, too.
        with suppress(FileNotFoundError):
            stamp = file.stat()
            found.append((stamp.st_mtime_ns, stamp.st_size, file))
    total = sum(size for _, size, _ in found)
    deleted = []
    for _, size, file in sorted(found):
        if total <= most:
            break
        if file in spare:
            continue
        # Windows keeps what another process has mapped.
        with suppress(PermissionError):
            file.unlink(missing_ok=True)
            deleted.append(file)
            total -= size
    return deleted
