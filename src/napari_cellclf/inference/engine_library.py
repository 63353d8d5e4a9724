"""The libraries of the engines, imported when one of them is used."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from napari_cellclf.errors import EngineError


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
    EngineError
        If it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(
            f"the engine {name} cannot be imported ({error}); install it with pip install "
            f'"napari-cellclf[{name}]", or use another engine'
        ) from error


@cache
def openvino_core() -> Any:
    """Return the one `openvino.Core` of this process.

    Each `Core` gives the thread a stack for signals, and takes it back when it goes. Of two that go
    in the order they came, the second puts back the first one's, which is freed by then, and the
    next Ctrl-C is a segmentation fault (seen with OpenVINO 2026.4.1). One that stays takes nothing
    back.

    Returns
    -------
    openvino.Core
        Shared by all, and never let go.

    Raises
    ------
    EngineError
        If OpenVINO cannot be imported.
    """
    return engine_library("openvino").Core()
