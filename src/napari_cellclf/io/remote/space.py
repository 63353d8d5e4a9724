"""Look for free space before something is fetched into it."""

from __future__ import annotations

import shutil
from pathlib import Path

from napari_cellclf.errors import DownloadError

#: Left free, so that other programs do not stop because of us.
_RESERVE = 32 << 20


def check_space(folder: Path, n_bytes: int) -> None:
    """Refuse what a folder has no room for."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + _RESERVE:
        raise DownloadError(
            f"{n_bytes / 1e6:.1f} MB are to be fetched and {folder} has {free / 1e6:.1f} MB left; "
            "free some, or set CELLCLF_CACHE (for ImageNet weights KERAS_HOME) to another disk"
        )
