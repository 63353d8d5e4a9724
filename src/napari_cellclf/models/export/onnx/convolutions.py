"""Convolutions and dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.models.export.onnx.activations import activate
from napari_cellclf.models.export.onnx.graph import Scope, Value
from napari_cellclf.models.export.onnx.padding import padding
from napari_cellclf.models.export.onnx.refusal import require, require_channels_last

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
        **padding(layer.padding, image.shape, (height, width), strides, dilations),
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
        **padding(layer.padding, image.shape, size, strides, dilations),
    )


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
