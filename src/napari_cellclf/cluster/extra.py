"""The door to dask's `distributed`, which the extra of that name brings."""

from __future__ import annotations

import importlib
from typing import Any

from napari_cellclf.errors import InputError


def distributed_library() -> Any:
    """Import `distributed`."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise InputError(
            f"a cluster needs dask's distributed, which cannot be imported ({error}); install it "
            'with pip install "napari-cellclf[distributed]"'
        ) from error
