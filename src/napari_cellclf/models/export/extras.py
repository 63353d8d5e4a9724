"""The libraries of the extra `export`, imported when they are first needed."""

from __future__ import annotations

from typing import Any

from napari_cellclf.errors import ExportError
from napari_cellclf.inference.engine_library import import_silently


def export_library(name: str) -> Any:
    """Import a library of the extra `export`."""
    try:
        return import_silently(name)
    except ImportError as error:
        raise ExportError(
            f"exporting needs {name.partition('.')[0]}, which cannot be imported ({error}); "
            'install it with pip install "napari-cellclf[export]"'
        ) from error
