"""Convolutions, dense layers and pooling, with padding as Keras means it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.models.export.onnx.activations import activate
from napari_cellclf.models.export.onnx.graph import Scope, Value, require, require_channels_last

if TYPE_CHECKING:
    from numpy.typing import NDArray


def conv(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Conv2D`."""
    kernel = _array(layer.kernel).transpose(3, 2, 0, 1)
    return activate(scope, layer, _convolve(scope, layer, inputs[0], kernel, layer.groups))


def depthwise_conv(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `DepthwiseConv2D`: as many groups as channels."""
    kernel = _each_channel(_array(layer.kernel))
    channels = inputs[0].shape[-1]
    return activate(scope, layer, _convolve(scope, layer, inputs[0], kernel, channels))


def separable_conv(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `SeparableConv2D`: one convolution for each channel, then one over the channels."""
    require_channels_last(layer)
    image = scope.first(inputs[0])
    height, width, channels, multiplier = layer.depthwise_kernel.shape
    shape = layer.compute_output_shape(image.shape)
    strides, dilations = layer.strides, layer.dilation_rate
    spread = scope.op(
        "Conv",
        (image, scope.constant("depthwise", _each_channel(_array(layer.depthwise_kernel)))),
        (*shape[:3], channels * multiplier),
        channels_first=True,
        kernel_shape=(height, width),
        strides=strides,
        dilations=dilations,
        group=channels,
        **_padding(layer.padding, image.shape, (height, width), strides, dilations),
    )
    pointwise = scope.constant("pointwise", _array(layer.pointwise_kernel).transpose(3, 2, 0, 1))
    mixed = scope.op(
        "Conv",
        (spread, pointwise, *_bias(scope, layer)),
        shape,
        channels_first=True,
        kernel_shape=(1, 1),
    )
    return activate(scope, layer, mixed)


def conv_transpose(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Conv2DTranspose`."""
    require_channels_last(layer)
    require(layer, _all_ones(layer.dilation_rate), f"dilation_rate {layer.dilation_rate}")
    image = scope.first(inputs[0])
    # What Keras adds to, or cuts from, the full answer does not depend on the size of the image.
    sample = layer.compute_output_shape((1, 8, 8, image.shape[-1]))[1:3]
    excess = [
        stride * 7 + window - side
        for side, stride, window in zip(sample, layer.strides, layer.kernel_size, strict=True)
    ]
    cut = [max(amount, 0) for amount in excess]
    kernel = _array(layer.kernel).transpose(3, 2, 0, 1)
    answer = scope.op(
        "ConvTranspose",
        (image, scope.constant("kernel", kernel), *_bias(scope, layer)),
        layer.compute_output_shape(image.shape),
        channels_first=True,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        pads=[*(amount // 2 for amount in cut), *(amount - amount // 2 for amount in cut)],
        output_padding=[max(-amount, 0) for amount in excess],
    )
    return activate(scope, layer, answer)


def dense(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Dense`: over the channels where it is given an image."""
    (value,) = inputs
    kernel, shape = _array(layer.kernel), (*value.shape[:-1], layer.units)
    parts: tuple[Value | str, ...]
    if len(shape) == 2:
        parts = (value, scope.constant("kernel", kernel), *_bias(scope, layer))
        answer = scope.op("Gemm", parts, shape)
    elif value.channels_first:
        weights = scope.constant("kernel_1x1", kernel.T[..., np.newaxis, np.newaxis])
        parts = (value, weights, *_bias(scope, layer))
        answer = scope.op("Conv", parts, shape, channels_first=True, kernel_shape=(1, 1))
    else:
        answer = scope.op("MatMul", (value, scope.constant("kernel", kernel)), shape)
        for bias in _bias(scope, layer):
            answer = scope.each("Add", answer, bias)
    return activate(scope, layer, answer)


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


def _convolve(
    scope: Scope, layer: Any, value: Value, kernel: NDArray[Any], groups: int | None
) -> Value:
    require_channels_last(layer)
    image = scope.first(value)
    size, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
    return scope.op(
        "Conv",
        (image, scope.constant("kernel", kernel), *_bias(scope, layer)),
        layer.compute_output_shape(image.shape),
        channels_first=True,
        kernel_shape=size,
        strides=strides,
        dilations=dilations,
        group=groups,
        **_padding(layer.padding, image.shape, size, strides, dilations),
    )


def _pool(scope: Scope, layer: Any, value: Value, kind: str, **attributes: int) -> Value:
    require_channels_last(layer)
    image = scope.first(value)
    pads = _padding(layer.padding, image.shape, layer.pool_size, layer.strides)
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


Shape = tuple[int | None, ...]


def _each_channel(kernel: NDArray[Any]) -> NDArray[Any]:
    """Bring ``(h, w, C, multiplier)`` to ``(C * multiplier, 1, h, w)``."""
    height, width, channels, multiplier = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)


def _bias(scope: Scope, layer: Any) -> tuple[str, ...]:
    return (scope.constant("bias", _array(layer.bias)),) if layer.bias is not None else ()


def _array(variable: Any) -> NDArray[Any]:
    array: NDArray[Any] = keras.ops.convert_to_numpy(variable)
    return array


def _all_ones(numbers: Any) -> bool:
    return bool(np.all(np.asarray(numbers) == 1))


def _padding(
    kind: str,
    shape: Shape,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] = (1, 1),
) -> dict[str, Any]:
    """Return the attributes of a convolution or a pooling that pad its image.

    `shape`: of the image, ``(N, Y, X, C)``.

    Examples
    --------
    >>> _padding("same", (None, 7, 8, 3), (3, 3), (2, 2))
    {'pads': [1, 0, 1, 1]}
    >>> _padding("same", (None, None, None, 3), (3, 3), (1, 1))
    {'pads': [1, 1, 1, 1]}
    >>> _padding("same", (None, None, None, 3), (3, 3), (2, 2))
    {'auto_pad': 'SAME_UPPER'}
    """
    if kind == "valid":
        return {}
    totals = [_total(*sides) for sides in zip(shape[1:3], kernel, strides, dilations, strict=True)]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return {"auto_pad": "SAME_UPPER"}
    before = [total // 2 for total in known]
    return {"pads": before + [total - half for total, half in zip(known, before, strict=True)]}


def _total(side: int | None, kernel: int, stride: int, dilation: int) -> int | None:
    reach = (kernel - 1) * dilation + 1
    if stride == 1 or reach == 1:
        return reach - 1
    if side is None:
        return None
    steps = -(-side // stride)
    return max((steps - 1) * stride + reach - side, 0)
