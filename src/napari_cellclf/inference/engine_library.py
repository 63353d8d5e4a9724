"""The libraries of the engines, imported when one of them is used."""

from __future__ import annotations

import importlib
from typing import Any

from napari_cellclf.errors import ModelError


def engine_library(name: str) -> Any:
    """Import the library of an engine.

    Parameters
    ----------
    name : {'openvino', 'onnxruntime'}
        Its module, and the extra that installs it.

    Returns
    -------
    module
        The library.

    Raises
    ------
    ModelError
        If it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"the engine {name} cannot be imported ({error}); install it with pip install "
            f'"napari-cellclf[{name}]", or use another engine'
        ) from error
