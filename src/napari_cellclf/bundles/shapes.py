"""What each layer makes of its input, and the weights it has: sizes alone, without Keras.

The formulas are those of the layers' documentation (https://keras.io/api/layers/); a shape leaves
the batch out. The tests hold them against Keras itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]
Config = Mapping[str, Any]
#: The shape that goes on, and those of the weights in Keras's order.
Made = tuple[Shape, list[Shape]]


class MisfitError(ValueError):
    """A layer cannot take its input; whoever looks at the whole file says which."""


def made_by(class_name: str, config: Config, inputs: Sequence[Shape]) -> Made:
    """Tell what a layer makes of its inputs.

    Returns what goes on, without the batch.
    """
    if class_name in _MERGES:
        return _MERGES[class_name](config, inputs), []
    if len(inputs) != 1:
        raise MisfitError(f"takes one input, not {len(inputs)}")
    (shape,) = inputs
    made = _LAYERS[class_name](config, shape) if class_name in _LAYERS else (shape, [])
    if any(side < 1 for side in made[0]):
        raise MisfitError(f"makes nothing of an input of {shape}")
    return made


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise MisfitError(f"takes images, not an input of {shape}")
    return shape[0], shape[1], shape[2]


def _pair(value: Any) -> tuple[int, int]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) not in (1, 2):
        raise MisfitError("takes two numbers")
    return listed[0], listed[-1]


def _edges(value: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    listed = value if isinstance(value, list) else [value, value]
    return _pair(listed[0]), _pair(listed[1])


def _slid(config: Config, shape: Shape, kernel: Any, strides: Any) -> tuple[int, int]:
    """Return height and width after a window was moved over an image."""
    sizes = zip(
        _image(shape)[:2],
        _pair(kernel),
        _pair(strides or 1),
        _pair(config.get("dilation_rate", 1)),
        strict=True,
    )
    same = config.get("padding", "valid") == "same"
    height, width = (
        -(-side // step) if same else (side - (size - 1) * apart - 1) // step + 1
        for side, size, step, apart in sizes
    )
    return height, width


def _bias(config: Config, channels: int) -> list[Shape]:
    return [(channels,)] if config.get("use_bias", True) else []


def _conv(config: Config, shape: Shape) -> Made:
    channels, filters, groups = _image(shape)[2], config["filters"], config.get("groups", 1)
    if channels % groups or filters % groups:
        raise MisfitError(f"cannot divide {channels} channels into {groups} groups")
    kernel = (*_pair(config["kernel_size"]), channels // groups, filters)
    sides = _slid(config, shape, config["kernel_size"], config.get("strides"))
    return (*sides, filters), [kernel, *_bias(config, filters)]


def _depthwise(config: Config, shape: Shape) -> Made:
    channels, multiplier = _image(shape)[2], config.get("depth_multiplier", 1)
    kernel = (*_pair(config["kernel_size"]), channels, multiplier)
    sides = _slid(config, shape, config["kernel_size"], config.get("strides"))
    made = channels * multiplier
    return (*sides, made), [kernel, *_bias(config, made)]


def _separable(config: Config, shape: Shape) -> Made:
    (height, width, channels), (kernel, *_) = _depthwise(config, shape)
    filters = config["filters"]
    weights = [kernel, (1, 1, channels, filters), *_bias(config, filters)]
    return (height, width, filters), weights


def _transposed(config: Config, shape: Shape) -> Made:
    filters, kernel = config["filters"], _pair(config["kernel_size"])
    same = config.get("padding", "valid") == "same"
    apart = _pair(config.get("dilation_rate", 1))
    steps = _pair(config.get("strides") or 1)
    height, width = (
        side * step + (0 if same else max((size - 1) * gap + 1 - step, 0))
        for side, size, step, gap in zip(_image(shape)[:2], kernel, steps, apart, strict=True)
    )
    return (height, width, filters), [(*kernel, filters, shape[2]), *_bias(config, filters)]


def _dense(config: Config, shape: Shape) -> Made:
    units = config["units"]
    return (*shape[:-1], units), [(shape[-1], units), *_bias(config, units)]


def _pooled(config: Config, shape: Shape) -> Made:
    size = config["pool_size"]
    return (*_slid(config, shape, size, config.get("strides") or size), shape[2]), []


def _pooled_away(config: Config, shape: Shape) -> Made:
    channels = _image(shape)[2]
    return ((1, 1, channels) if config.get("keepdims") else (channels,)), []


def _axes(value: Any, shape: Shape) -> list[int]:
    """Return axes as positions in a shape without the batch."""
    listed = value if isinstance(value, list) else [value]
    places = [axis if axis < 0 else axis - 1 - len(shape) for axis in listed]
    if 0 in listed or not all(-len(shape) <= place < 0 for place in places):
        raise MisfitError(f"has no such axis: {listed}")
    return [len(shape) + place for place in places]


def _along(config: Config, shape: Shape) -> Shape:
    return tuple(shape[axis] for axis in _axes(config.get("axis", -1), shape))


def _scaled(config: Config, shape: Shape) -> list[Shape]:
    kept = _along(config, shape)
    return [kept] * (int(config.get("scale", True)) + int(config.get("center", True)))


def _batch_norm(config: Config, shape: Shape) -> Made:
    return shape, [*_scaled(config, shape), _along(config, shape), _along(config, shape)]


def _normalized(config: Config, shape: Shape) -> Made:
    if config.get("mean") is not None:
        return shape, []
    axis = config.get("axis", -1)
    kept = () if axis in (None, []) else _along({"axis": axis}, shape)
    return shape, [kept, kept, ()]


def _prelu(config: Config, shape: Shape) -> Made:
    shared = _axes(config["shared_axes"], shape) if config.get("shared_axes") else []
    return shape, [tuple(1 if axis in shared else side for axis, side in enumerate(shape))]


def _layer_scale(config: Config, shape: Shape) -> Made:
    if shape[-1] != config["projection_dim"]:
        raise MisfitError(f"scales {config['projection_dim']} channels, not {shape[-1]}")
    return shape, [(shape[-1],)]


def _rescaled(config: Config, shape: Shape) -> Made:
    for key in ("scale", "offset"):
        value = config.get(key, 0)
        if isinstance(value, list) and (len(value) != shape[-1] or _nested(value)):
            raise MisfitError(f"has {len(value)} numbers for {shape[-1]} channels")
    return shape, []


def _nested(value: list[Any]) -> bool:
    return any(isinstance(one, list) for one in value)


def _flat(config: Config, shape: Shape) -> Made:
    return (math.prod(shape),), []


def _reshaped(config: Config, shape: Shape) -> Made:
    listed = config["target_shape"]
    return _fill(listed if isinstance(listed, list) else [listed], shape), []


def _fill(wanted: list[int], shape: Shape) -> Shape:
    """Replace the one -1 of a shape by what is left over."""
    known, total = math.prod(side for side in wanted if side != -1), math.prod(shape)
    if wanted.count(-1) > 1 or known < 1 or total % known:
        raise MisfitError(f"cannot reshape {shape} to {wanted}")
    made = tuple(total // known if side == -1 else side for side in wanted)
    if math.prod(made) != total:
        raise MisfitError(f"cannot reshape {shape} to {wanted}")
    return made


def _permuted(config: Config, shape: Shape) -> Made:
    dims = config["dims"] if isinstance(config["dims"], list) else [config["dims"]]
    if sorted(dims) != list(range(1, len(shape) + 1)):
        raise MisfitError(f"cannot order the axes of {shape} as {dims}")
    return tuple(shape[axis - 1] for axis in dims), []


def _repeated(config: Config, shape: Shape) -> Made:
    if len(shape) != 1:
        raise MisfitError(f"takes a list of numbers, not an input of {shape}")
    return (config["n"], *shape), []


def _resized(config: Config, shape: Shape) -> Made:
    return (config["height"], config["width"], _image(shape)[2]), []


def _enlarged(config: Config, shape: Shape) -> Made:
    height, width, channels = _image(shape)
    up, across = _pair(config.get("size", 2))
    return (height * up, width * across, channels), []


def _padded(config: Config, shape: Shape, sign: int = 1) -> Made:
    height, width, channels = _image(shape)
    rows, columns = _edges(config.get("padding" if sign > 0 else "cropping", 1 if sign > 0 else 0))
    return (height + sign * sum(rows), width + sign * sum(columns), channels), []


def _cropped(config: Config, shape: Shape) -> Made:
    return _padded(config, shape, -1)


def _same(config: Config, shape: Shape) -> Made:
    _along(config, shape)
    return shape, []


def _mean(config: Config, shape: Shape) -> Made:
    away = _axes(config.get("axis", 0), shape)
    keep = bool(config.get("keepdims"))
    sides = [1 if i in away else side for i, side in enumerate(shape) if keep or i not in away]
    return tuple(sides) or (1,), []


def _merged(config: Config, inputs: Sequence[Shape]) -> Shape:
    rank = max(map(len, inputs))
    made = []
    for axis in range(-rank, 0):
        sides = {shape[axis] for shape in inputs if -axis <= len(shape)} - {1}
        if len(sides) > 1:
            raise MisfitError(f"cannot put inputs of {' and '.join(map(str, inputs))} together")
        made.append(sides.pop() if sides else 1)
    return tuple(made)


def _joined(config: Config, inputs: Sequence[Shape]) -> Shape:
    first = inputs[0]
    (axis,) = _axes(config.get("axis", -1), first)
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
    if len(rests) > 1 or len({len(shape) for shape in inputs}) > 1:
        raise MisfitError(f"cannot join inputs of {' and '.join(map(str, inputs))}")
    return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


_MERGES: Mapping[str, Callable[[Config, Sequence[Shape]], Shape]] = {
    "Concatenate": _joined,
    **dict.fromkeys(
        ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract", "CustomScaleLayer"),
        _merged,
    ),
    **dict.fromkeys(("Divide", "TrueDivide"), _merged),
}
#: Layers that are not named here hand their input on in the same shape, and have no weights.
_LAYERS: Mapping[str, Callable[[Config, Shape], Made]] = {
    "AveragePooling2D": _pooled,
    "BatchNormalization": _batch_norm,
    "CenterCrop": _resized,
    "Conv2D": _conv,
    "Conv2DTranspose": _transposed,
    "Cropping2D": _cropped,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Flatten": _flat,
    "GlobalAveragePooling2D": _pooled_away,
    "GlobalMaxPooling2D": _pooled_away,
    "GroupNormalization": lambda config, shape: (shape, _scaled(config, shape)),
    "LayerNormalization": lambda config, shape: (shape, _scaled(config, shape)),
    "LayerScale": _layer_scale,
    "MaxPooling2D": _pooled,
    "Mean": _mean,
    "Normalization": _normalized,
    "PReLU": _prelu,
    "Permute": _permuted,
    "RepeatVector": _repeated,
    "Rescaling": _rescaled,
    "Reshape": _reshaped,
    "Resizing": _resized,
    "SeparableConv2D": _separable,
    "Softmax": _same,
    "UnitNormalization": _same,
    "UpSampling2D": _enlarged,
    "ZeroPadding2D": _padded,
}
