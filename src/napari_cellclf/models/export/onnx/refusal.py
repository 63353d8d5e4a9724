"""What a layer says when ONNX, or this exporter, has no operator for it."""

from __future__ import annotations

from typing import Any

from napari_cellclf.errors import ExportError


def cannot(layer: Any, what: str) -> ExportError:
    """Make the error of a layer that cannot be written as ONNX."""
    return ExportError(
        f"layer {layer.name} ({type(layer).__name__}) cannot be written as ONNX: {what}; export "
        "the model as savedmodel or keras, or train it without that layer"
    )


def require(layer: Any, condition: bool, what: str) -> None:
    """Refuse a layer unless a condition holds."""
    if not condition:
        raise cannot(layer, what)


def require_channels_last(layer: Any) -> None:
    """Refuse a layer that keeps channels first in Keras itself."""
    form = getattr(layer, "data_format", None)
    require(layer, form in (None, "channels_last"), f"data_format {form!r}")
