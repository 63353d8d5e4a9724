"""Put a finished file or folder in its place, so that there is always a whole one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from napari_cellclf.bundles.members import SPEC
from napari_cellclf.bundles.paths import previous_path
from napari_cellclf.errors import BundleError


def check_replaceable(target: Path) -> None:
    """Refuse to replace a folder that is no model, whatever else was allowed."""
    if target.is_dir() and not (target / SPEC).exists() and any(target.iterdir()):
        raise BundleError(
            f"{target} is a folder with something else than a model in it; choose another name"
        )


def exchange(finished: Path, target: Path) -> None:
    """Put what is finished where an older one may lie."""
    previous = previous_path(target)
    _remove(previous if target.exists() else None)
    if target.exists():
        target.rename(previous)
    try:
        finished.rename(target)
    except OSError:
        if previous.exists():
            previous.rename(target)
        raise
    sync_folder(target.parent)
    _remove(previous)


def _remove(path: Path | None) -> None:
    if path is None or not path.exists():
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Write the names in a folder down to the disk."""
    # Windows cannot open a folder, and writes names down by itself.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
