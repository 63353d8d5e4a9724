"""Where files that were fetched are kept."""

from __future__ import annotations

import os
from pathlib import Path

from napari_cellclf.io.home import expanded

#: Environment variable that names another folder.
CACHE_VARIABLE = "CELLCLF_CACHE"


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
