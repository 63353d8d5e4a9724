"""Where files that were fetched are kept."""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable that names another folder.
CACHE_VARIABLE = "CELLCLF_CACHE"


def cache_folder() -> Path:
    """Return the folder of fetched files; it need not exist yet.

    Returns
    -------
    Path
        That in the environment variable ``CELLCLF_CACHE``, or the system's folder for caches.
    """
    stated = os.environ.get(CACHE_VARIABLE)
    if stated:
        return Path(stated).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("napari-cellclf", appauthor=False)
