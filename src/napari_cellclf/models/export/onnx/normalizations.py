"""Layers that normalise or scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.models.export.onnx.graph import Scope, Value, require

if TYPE_CHECKING:
    from numpy.typing import NDArray


def batch_normalization(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `BatchNormalization` with its stored statistics; engines fold it into convolutions."""
    (value,) = inputs
    rank = len(value.shape)
    on_channels = rank in (2, 4) and _only_axis(layer.axis) % rank == rank - 1
    require(layer, on_channels, f"axis {layer.axis} of rank {rank}")
    value, count = scope.first(value), _channels(value)
    parts = (
        _optional(layer.gamma, np.ones(count)),
        _optional(layer.beta, np.zeros(count)),
        _array(layer.moving_mean),
        _array(layer.moving_variance),
    )
    names = ("gamma", "beta", "mean", "variance")
    constants = [scope.constant(name, part) for name, part in zip(names, parts, strict=True)]
    return scope.each("BatchNormalization", value, *constants, epsilon=float(layer.epsilon))


def layer_normalization(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `LayerNormalization` over the last axes."""
    value = scope.last(inputs[0])
    rank = len(value.shape)
    axes = sorted(axis % rank for axis in np.atleast_1d(layer.axis).tolist())
    require(
        layer, axes == list(range(axes[0], rank)), f"axis {layer.axis}, which are not the last ones"
    )
    sides = [side for side in value.shape[axes[0] :] if side is not None]
    require(layer, len(sides) == len(axes), f"axis {layer.axis} of open size")
    gamma = scope.constant("gamma", _optional(layer.gamma, np.ones(sides)))
    beta = scope.constant("beta", _optional(layer.beta, np.zeros(sides)))
    return scope.each(
        "LayerNormalization", value, gamma, beta, axis=axes[0], epsilon=float(layer.epsilon)
    )


def group_normalization(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `GroupNormalization`: each group of channels as one channel, normalised by itself."""
    (value,) = inputs
    rank = len(value.shape)
    on_channels = rank in (2, 4) and layer.axis % rank == rank - 1
    require(layer, on_channels, f"axis {layer.axis} of rank {rank}")
    value = scope.first(value)
    groups, count = int(layer.groups), _channels(value)
    grouped_shape = scope.constant("grouped", [0, groups, -1], np.int64)
    grouped = scope.op("Reshape", (value, grouped_shape), (None, groups, None))
    ones, zeros = scope.constant("one", np.ones(groups)), scope.constant("zero", np.zeros(groups))
    normalized = scope.each(
        "InstanceNormalization", grouped, ones, zeros, epsilon=float(layer.epsilon)
    )
    sizes = scope.op("Shape", (value,), (rank,))
    restored = scope.op(
        "Reshape", (normalized, sizes), value.shape, channels_first=value.channels_first
    )
    gamma = scope.beside("gamma", _optional(layer.gamma, np.ones(count)), restored)
    beta = scope.beside("beta", _optional(layer.beta, np.zeros(count)), restored)
    return scope.each("Add", scope.each("Mul", restored, gamma), beta)


def unit_normalization(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `UnitNormalization` over one axis."""
    (value,) = inputs
    axis = value.axis(_only_axis(layer.axis))
    norm = scope.each("ReduceL2", value, scope.constant("axis", [axis], np.int64), keepdims=1)
    # Keras: the square of the length is at least 1e-12.
    length = scope.each("Max", norm, scope.constant("smallest", 1e-6))
    return scope.each("Div", value, length)


def normalization(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Normalization` with the mean and variance it holds."""
    (value,) = inputs
    mean = _array(layer.mean)
    # Keras divides by the deviation or its epsilon, whichever is larger.
    deviation = np.maximum(np.sqrt(_array(layer.variance)), keras.config.epsilon())
    means, deviations = scope.beside("mean", mean, value), scope.beside("std", deviation, value)
    if layer.invert:
        return scope.each("Add", scope.each("Mul", value, deviations), means)
    return scope.each("Div", scope.each("Sub", value, means), deviations)


def rescaling(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Rescaling`."""
    (value,) = inputs
    scaled = scope.each("Mul", value, scope.beside("scale", layer.scale, value))
    return scope.each("Add", scaled, scope.beside("offset", layer.offset, value))


def layer_scale(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write ConvNeXt's `LayerScale`: a factor for each channel."""
    (value,) = inputs
    return scope.each("Mul", value, scope.beside("gamma", _array(layer.gamma), value))


def _channels(value: Value) -> int:
    count = value.shape[-1]
    # Keras builds no layer on channels without a number.
    assert count is not None
    return count


def _only_axis(axis: Any) -> int:
    (only,) = np.atleast_1d(axis).tolist()
    return int(only)


def _optional(variable: Any, default: NDArray[Any]) -> NDArray[Any]:
    return default if variable is None else _array(variable)


def _array(variable: Any) -> NDArray[Any]:
    array: NDArray[Any] = keras.ops.convert_to_numpy(variable)
    return array
