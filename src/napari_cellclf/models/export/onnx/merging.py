"""Layers and operations that bring several tensors, or a tensor and a number, together."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import keras
import numpy as np

from napari_cellclf.models.export.onnx.graph import Scope, Value, require

Convert = Callable[[Scope, Any, list[Any]], Value]


def merge(kind: str) -> Convert:
    """Make the function for `Add`, `Multiply`, `Subtract`, `Maximum` or `Minimum`."""

    def write(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
        shape = tuple(layer.compute_output_shape([value.shape for value in inputs]))
        return _fold(scope, kind, _alike(scope, inputs), shape)

    return write


def average(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Average`."""
    total = merge("Add")(scope, layer, inputs)
    return scope.each("Div", total, scope.constant("count", len(inputs)))


def concatenate(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Concatenate`."""
    values = _alike(scope, inputs)
    return scope.op(
        "Concat",
        values,
        layer.compute_output_shape([value.shape for value in inputs]),
        channels_first=values[0].channels_first,
        axis=values[0].axis(layer.axis),
    )


def custom_scale(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write Inception-ResNet's `CustomScaleLayer`: the first plus a share of the second."""
    base, residue = _alike(scope, inputs)
    share = scope.each("Mul", residue, scope.constant("scale", layer.scale))
    return scope.each("Add", base, share)


def operation(kind: str) -> Convert:
    """Make the function for an operation of ``keras.ops`` on two tensors or numbers."""

    def write(scope: Scope, op: Any, inputs: list[Any]) -> Value:
        require(op, len(inputs) == 2, "an argument that is neither a tensor nor a number")
        tensors = [part for part in inputs if isinstance(part, Value)]
        # Of unequal ranks the last axes belong together, as in numpy.
        same_rank = len({len(tensor.shape) for tensor in tensors}) == 1
        first = same_rank and any(tensor.channels_first for tensor in tensors)
        parts = [
            scope.graph.turn(part, first)
            if isinstance(part, Value)
            else scope.constant(f"number{position}", part)
            for position, part in enumerate(inputs)
        ]
        specs = [
            keras.KerasTensor(part.shape) if isinstance(part, Value) else part for part in inputs
        ]
        return scope.op(kind, parts, op.compute_output_spec(*specs).shape, channels_first=first)

    return write


def mean(scope: Scope, op: Any, inputs: list[Value]) -> Value:
    """Write ``keras.ops.mean``."""
    value = scope.last(inputs[0])
    require(op, op.axis is not None, "a mean over the batch")
    axes = np.atleast_1d(op.axis).tolist()
    return scope.op(
        "ReduceMean",
        (value, scope.constant("axes", axes, np.int64)),
        op.compute_output_spec(keras.KerasTensor(value.shape)).shape,
        keepdims=int(op.keepdims),
    )


def _fold(scope: Scope, kind: str, values: list[Value], shape: Any) -> Value:
    return reduce(
        lambda one, other: scope.op(
            kind, (one, other), shape, channels_first=one.channels_first or other.channels_first
        ),
        values,
    )


def _alike(scope: Scope, values: list[Value]) -> list[Value]:
    """Bring all to the largest rank, as Keras's merging layers do, and to one order."""
    rank = max(len(value.shape) for value in values)
    return _same_order(scope, [_raised(scope, value, rank) for value in values])


def _raised(scope: Scope, value: Value, rank: int) -> Value:
    missing = rank - len(value.shape)
    if not missing:
        return value
    axes = scope.constant("axes", list(range(1, 1 + missing)), np.int64)
    shape = (value.shape[0], *(1,) * missing, *value.shape[1:])
    return scope.op("Unsqueeze", (value, axes), shape)


def _same_order(scope: Scope, values: list[Value]) -> list[Value]:
    # Channels first if any is: the next convolution would turn them anyway.
    first = any(value.channels_first for value in values)
    return [scope.graph.turn(value, first) for value in values]
