"""The libraries of the extra `export`, imported when they are first needed."""

from __future__ import annotations

import importlib
from typing import Any

from napari_cellclf.errors import ExportError


def export_library(name: str) -> Any:
    """Import a library of the extra `export`.

    Parameters
    ----------
    name : str
        Of the module, such as ``"onnxruntime"``.

    Returns
    -------
    module
        The library.

    Raises
    ------
    ExportError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"exporting needs {name.partition('.')[0]}, which cannot be imported ({error}); "
            'install it with pip install "napari-cellclf[export]"'
        ) from error
