"""Activations of Keras as ONNX operators.

The formulas and the default numbers are those that Keras documents in `keras.activations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from napari_cellclf.models.export.onnx.graph import Scope, Value, cannot, require

Apply = Callable[[Scope, Value], Value]

# Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def activate(scope: Scope, layer: Any, value: Value) -> Value:
    """Apply the activation of a layer."""
    name = keras.activations.serialize(layer.activation)
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise cannot(layer, f"activation {name!r}")
    return _ACTIVATIONS[name](scope, value)


def softmax(scope: Scope, value: Value, axis: int = -1, kind: str = "Softmax") -> Value:
    """Apply a softmax along one of Keras's axes."""
    return scope.each(kind, value, axis=value.axis(axis))


def relu(
    scope: Scope,
    value: Value,
    slope: float = 0.0,
    threshold: float = 0.0,
    max_value: float | None = None,
) -> Value:
    """Apply Keras's general rectifier."""
    if slope and not threshold and max_value is None:
        return scope.each("LeakyRelu", value, alpha=slope)
    positive = scope.each("Relu", value)
    if threshold:
        # Nothing between 0 and the threshold passes.
        limit = scope.constant("threshold", threshold)
        above = scope.each("Cast", scope.each("Greater", value, limit), to=np.dtype(np.float32))
        positive = scope.each("Mul", value, above)
    if max_value is not None:
        positive = clip(scope, positive, 0.0, max_value)
    if not slope:
        return positive
    short = scope.each("Relu", scope.each("Neg", _plus(scope, value, -threshold)))
    return scope.each("Sub", positive, _times(scope, short, slope))


def clip(scope: Scope, value: Value, low: float, high: float) -> Value:
    """Bring numbers into a range."""
    return scope.each("Clip", value, scope.constant("low", low), scope.constant("high", high))


def _same(scope: Scope, value: Value) -> Value:
    return value


def _plain(kind: str, **attributes: float) -> Apply:
    return lambda scope, value: scope.each(kind, value, **attributes)


def _times(scope: Scope, value: Value, factor: float) -> Value:
    return scope.each("Mul", value, scope.constant("factor", factor))


def _plus(scope: Scope, value: Value, summand: float) -> Value:
    return scope.each("Add", value, scope.constant("summand", summand))


def _silu(scope: Scope, value: Value) -> Value:
    return scope.each("Mul", value, scope.each("Sigmoid", value))


def _gelu(scope: Scope, value: Value) -> Value:
    # x/2 (1 + erf(x / sqrt 2)), Keras's default; its tanh approximation has no name of its own.
    curve = scope.each("Erf", _times(scope, value, 1 / math.sqrt(2)))
    return scope.each("Mul", _times(scope, value, 0.5), _plus(scope, curve, 1.0))


def _log_sigmoid(scope: Scope, value: Value) -> Value:
    return scope.each("Neg", scope.each("Softplus", scope.each("Neg", value)))


def _tanh_shrink(scope: Scope, value: Value) -> Value:
    return scope.each("Sub", value, scope.each("Tanh", value))


def _squareplus(scope: Scope, value: Value) -> Value:
    root = scope.each("Sqrt", _plus(scope, scope.each("Mul", value, value), 4.0))
    return _times(scope, scope.each("Add", value, root), 0.5)


def _sparse_plus(scope: Scope, value: Value) -> Value:
    # (x + 1)^2 / 4 between -1 and 1, x beyond.
    bent = _plus(scope, clip(scope, value, -1.0, 1.0), 1.0)
    square = _times(scope, scope.each("Mul", bent, bent), 0.25)
    return scope.each("Add", square, scope.each("Relu", _plus(scope, value, -1.0)))


def _sparse_sigmoid(scope: Scope, value: Value) -> Value:
    return clip(scope, _times(scope, _plus(scope, value, 1.0), 0.5), 0.0, 1.0)


_ACTIVATIONS: dict[str, Apply] = {
    "linear": _same,
    "relu": relu,
    "relu6": partial(relu, max_value=6.0),
    "leaky_relu": partial(relu, slope=0.2),
    "elu": _plain("Elu", alpha=1.0),
    "selu": _plain("Selu", alpha=_SELU_ALPHA, gamma=_SELU_SCALE),
    "celu": _plain("Celu", alpha=1.0),
    "silu": _silu,
    "gelu": _gelu,
    "mish": _plain("Mish"),
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
    "exponential": _plain("Exp"),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_silu": _plain("HardSwish"),
    "hard_tanh": partial(clip, low=-1.0, high=1.0),
    "hard_shrink": _plain("Shrink", lambd=0.5, bias=0.0),
    "soft_shrink": _plain("Shrink", lambd=0.5, bias=0.5),
    "tanh_shrink": _tanh_shrink,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softmax": softmax,
    "log_softmax": partial(softmax, kind="LogSoftmax"),
}


def square_root(scope: Scope, op: Any, inputs: list[Value]) -> Value:
    """Write ``keras.ops.sqrt``."""
    return scope.each("Sqrt", inputs[0])


def activation(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Activation`."""
    return activate(scope, layer, inputs[0])


def relu_layer(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `ReLU`."""
    slope, threshold, limit = layer.negative_slope, layer.threshold, layer.max_value
    return relu(scope, inputs[0], float(slope or 0), float(threshold or 0), limit)


def leaky_relu(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `LeakyReLU`."""
    return relu(scope, inputs[0], slope=float(layer.negative_slope))


def elu(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `ELU`."""
    return scope.each("Elu", inputs[0], alpha=float(layer.alpha))


def prelu(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `PReLU`, whose slopes are weights."""
    slopes = keras.ops.convert_to_numpy(layer.alpha)
    return scope.each("PRelu", inputs[0], scope.beside("alpha", slopes, inputs[0]))


def softmax_layer(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Softmax`."""
    require(layer, isinstance(layer.axis, int), f"axis {layer.axis!r}")
    return softmax(scope, inputs[0], layer.axis)
