"""Pooling, over windows and over whole images."""

from __future__ import annotations

from typing import Any

from napari_cellclf.models.export.onnx.graph import Scope, Value
from napari_cellclf.models.export.onnx.padding import padding
from napari_cellclf.models.export.onnx.refusal import require, require_channels_last


def max_pooling(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `MaxPooling2D`."""
    return _pool(scope, layer, inputs[0], "MaxPool")


def average_pooling(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `AveragePooling2D`; what was padded does not count, in either."""
    return _pool(scope, layer, inputs[0], "AveragePool", count_include_pad=0)


def global_average(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `GlobalAveragePooling2D`."""
    return _reduce(scope, layer, inputs[0], "ReduceMean")


def global_max(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `GlobalMaxPooling2D`."""
    return _reduce(scope, layer, inputs[0], "ReduceMax")


def _pool(scope: Scope, layer: Any, value: Value, kind: str, **attributes: int) -> Value:
    require_channels_last(layer)
    image = scope.first(value)
    pads = padding(layer.padding, image.shape, layer.pool_size, layer.strides)
    gaps = any(side < stride for side, stride in zip(layer.pool_size, layer.strides, strict=True))
    # ONNX Runtime 1.32 computes a negative padding there.
    require(layer, not (gaps and "auto_pad" in pads), "strides above the window in any size")
    return scope.op(
        kind,
        (image,),
        layer.compute_output_shape(image.shape),
        channels_first=True,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        **pads,
        **attributes,
    )


def _reduce(scope: Scope, layer: Any, value: Value, kind: str) -> Value:
    require_channels_last(layer)
    axes = scope.constant("axes", [value.axis(1), value.axis(2)], "int64")
    return scope.op(
        kind,
        (value, axes),
        layer.compute_output_shape(value.shape),
        channels_first=value.channels_first and layer.keepdims,
        keepdims=int(layer.keepdims),
    )
