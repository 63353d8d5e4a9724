"""Layers that move, cut, pad or resize without computing much."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cellclf.models.export.onnx.graph import (
    Scope,
    Value,
    cannot,
    require,
    require_channels_last,
)

_TO_THE_END = np.iinfo(np.int64).max


def identity(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write a layer that only trains: dropout, noise, augmentation, `Identity`."""
    return inputs[0]


def flatten(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Flatten`, in Keras's order of the numbers."""
    require_channels_last(layer)
    value = scope.last(inputs[0])
    return scope.op("Flatten", (value,), layer.compute_output_shape(value.shape), axis=1)


def reshape(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Reshape`, the layer."""
    shape = layer.compute_output_shape(inputs[0].shape)
    return _reshape(scope, layer, inputs[0], shape)


def reshape_operation(scope: Scope, op: Any, inputs: list[Any]) -> Value:
    """Write ``keras.ops.reshape``."""
    shape = tuple(None if side == -1 else side for side in op.newshape)
    require(op, shape[0] is None, "a reshape of the batch")
    return _reshape(scope, op, inputs[0], shape)


def permute(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Permute`."""
    value = scope.last(inputs[0])
    shape = layer.compute_output_shape(value.shape)
    return scope.op("Transpose", (value,), shape, perm=(0, *layer.dims))


def repeat_vector(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `RepeatVector`."""
    (value,) = inputs
    axes = scope.constant("axes", [1], np.int64)
    row = scope.op("Unsqueeze", (value, axes), (value.shape[0], 1, value.shape[1]))
    repeats = scope.constant("repeats", [1, layer.n, 1], np.int64)
    return scope.op("Tile", (row, repeats), layer.compute_output_shape(value.shape))


def zero_padding(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `ZeroPadding2D`."""
    require_channels_last(layer)
    (value,) = inputs
    (top, bottom), (left, right) = layer.padding
    pads = scope.constant("pads", [top, left, bottom, right], np.int64)
    return scope.op(
        "Pad",
        (value, pads, scope.constant("zero", 0.0), _sides(scope, value)),
        layer.compute_output_shape(value.shape),
        channels_first=value.channels_first,
        mode="constant",
    )


def cropping(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Cropping2D`."""
    require_channels_last(layer)
    (value,) = inputs
    (top, bottom), (left, right) = layer.cropping
    shape = layer.compute_output_shape(value.shape)
    ends = [-end if end else _TO_THE_END for end in (bottom, right)]
    return _slice(scope, value, [top, left], ends, shape)


def center_crop(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `CenterCrop` of images that are known to be large enough."""
    require_channels_last(layer)
    (value,) = inputs
    wanted, sides = (layer.height, layer.width), value.shape[1:3]
    starts = []
    for side, size in zip(sides, wanted, strict=True):
        if side is None or side < size:
            raise cannot(layer, f"a crop of {wanted} from images of {sides}")
        starts.append((side - size) // 2)
    ends = [start + size for start, size in zip(starts, wanted, strict=True)]
    return _slice(scope, value, starts, ends, (value.shape[0], *wanted, value.shape[3]))


def up_sampling(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `UpSampling2D`."""
    require_channels_last(layer)
    image = scope.first(inputs[0])
    factors = scope.constant("scales", [1.0, 1.0, *layer.size])
    return scope.op(
        "Resize",
        (image, "", factors),
        layer.compute_output_shape(image.shape),
        channels_first=True,
        **_interpolation(layer),
    )


def resizing(scope: Scope, layer: Any, inputs: list[Value]) -> Value:
    """Write `Resizing` without smoothing and without regard to the aspect ratio."""
    require_channels_last(layer)
    plain = not (layer.antialias or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio)
    require(layer, plain, "antialias, or keeping the aspect ratio")
    image = scope.first(inputs[0])
    wanted = scope.constant("sizes", [layer.height, layer.width], np.int64)
    # All four sizes: with two of them and their axes ONNX Runtime 1.32 loses its way among
    # transposes.
    kept = scope.op("Shape", (image,), (2,), start=0, end=2)
    sizes = scope.op("Concat", (kept, wanted), (4,), axis=0)
    return scope.op(
        "Resize",
        (image, "", "", sizes),
        (image.shape[0], layer.height, layer.width, image.shape[3]),
        channels_first=True,
        **_interpolation(layer),
    )


def _interpolation(layer: Any) -> dict[str, Any]:
    known = layer.interpolation in ("nearest", "bilinear")
    require(layer, known, f"interpolation {layer.interpolation!r}")
    # Half a pixel is added and cut off, as TensorFlow does.
    place = {"coordinate_transformation_mode": "half_pixel"}
    if layer.interpolation == "nearest":
        return {"mode": "nearest", "nearest_mode": "round_prefer_ceil"} | place
    return {"mode": "linear"} | place


def _reshape(scope: Scope, layer: Any, value: Value, shape: Any) -> Value:
    open_sides = [side for side in shape[1:] if side is None]
    require(layer, len(open_sides) <= 1, f"the shape {tuple(shape)}")
    # A vector in the shape of an image of one pixel is the same in either order.
    first = len(value.shape) == 2 and len(shape) == 4 and tuple(shape[1:3]) == (1, 1)
    sides = [shape[3], 1, 1] if first else list(shape[1:])
    target = [0, *(-1 if side is None else side for side in sides)]
    return scope.op(
        "Reshape",
        (scope.last(value), scope.constant("shape", target, np.int64)),
        (value.shape[0], *shape[1:]),
        channels_first=first,
    )


def _slice(scope: Scope, value: Value, starts: list[int], ends: list[int], shape: Any) -> Value:
    return scope.op(
        "Slice",
        (
            value,
            scope.constant("starts", starts, np.int64),
            scope.constant("ends", ends, np.int64),
            _sides(scope, value),
        ),
        shape,
        channels_first=value.channels_first,
    )


def _sides(scope: Scope, value: Value) -> str:
    return scope.constant("axes", [value.axis(1), value.axis(2)], np.int64)
