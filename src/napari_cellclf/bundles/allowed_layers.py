"""Which layers a network may be made of, and what each of their parameters may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from napari_cellclf.errors import UnsafeModelError

_LARGE = 1e9
_TEXT = 200
#: As deep as lists of numbers may be nested, and as long as they may be altogether.
_NESTED, _ENTRIES = 6, 1 << 16


def words(text: str) -> frozenset[str]:
    """Return the words of a text: a list of names that stays readable."""
    return frozenset(text.split())


ACTIVATIONS = words(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh "
    "leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink "
    "softmax softplus softsign sparse_plus sparsemax squareplus swish tanh tanh_shrink "
    "threshold"
)
_PRECISIONS = frozenset(["float16", "float32", "float64", "mixed_bfloat16", "mixed_float16"])
_INITIALIZERS = words(
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform "
    "Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros"
)
_INITIALIZER_TEXTS = words(
    "fan_in fan_out fan_avg normal truncated_normal uniform untruncated_normal"
)
_REGULARIZERS = frozenset(("L1", "L1L2", "L2"))
_CONSTRAINTS = frozenset(("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"))


@dataclass(frozen=True)
class Rule:
    """What a parameter may be."""

    #: In words, for messages.
    expected: str
    #: Whether a value parsed from JSON is such a one.
    accepts: Callable[[Any], bool]


def is_whole(value: Any, low: int, high: int) -> bool:
    """Whether a value is a whole number between two bounds, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def whole(low: int, high: int) -> Rule:
    """Return the rule of a whole number between two bounds."""
    return Rule(f"a whole number from {low} to {high}", lambda value: is_whole(value, low, high))


def wholes(low: int, high: int, most: int) -> Rule:
    """Return the rule of a whole number, or a list of up to `most`, each between two bounds."""

    def accepts(value: Any) -> bool:
        listed = value if isinstance(value, list) else [value]
        return 0 < len(listed) <= most and all(is_whole(one, low, high) for one in listed)

    return Rule(f"up to {most} whole numbers from {low} to {high}", accepts)


def sides(high: int) -> Rule:
    """Return the rule of one number, or one for each axis, or two for each: pixels at the edges."""

    def accepts(value: Any) -> bool:
        listed = value if isinstance(value, list) else [value, value]
        pairs = [one if isinstance(one, list) else [one, one] for one in listed]
        return len(pairs) == 2 and all(
            len(pair) == 2 and all(is_whole(one, 0, high) for one in pair) for pair in pairs
        )

    return Rule(f"whole numbers from 0 to {high}, for each side", accepts)


def either(*words: str) -> Rule:
    """Return the rule of one of some words."""
    return Rule(
        " or ".join(map(repr, words)), lambda value: isinstance(value, str) and value in words
    )


def exactly(*values: Any) -> Rule:
    """Return the rule of one of some values that no other type equals."""

    def accepts(value: Any) -> bool:
        return any(type(value) is type(one) and value == one for one in values)

    return Rule(" or ".join(map(repr, values)), accepts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGE


def _is_numbers(value: Any) -> bool:
    """Whether a value is a number, or lists of lists of numbers, of bounded size."""
    pending, entries = [(value, 0)], 0
    while pending:
        part, depth = pending.pop()
        entries += 1
        if entries > _ENTRIES or depth > _NESTED:
            return False
        if isinstance(part, list):
            pending.extend((one, depth + 1) for one in part)
        elif not _is_number(part):
            return False
    return True


def or_none(rule: Rule) -> Rule:
    """Return the rule that also takes nothing."""
    return Rule(f"{rule.expected}, or null", lambda value: value is None or rule.accepts(value))


def _is_object(value: Any, module: str, classes: frozenset[str]) -> bool:
    """Whether a value describes an object of Keras made from numbers and a few words alone."""
    if not isinstance(value, Mapping) or not value.keys() <= {
        "module", "class_name", "config", "registered_name", "shared_object_id",
    }:  # fmt: skip
        return False
    name, config = value.get("class_name"), value.get("config")
    return (
        isinstance(name, str)
        and name in classes
        and value.get("module") == module
        and value.get("registered_name") in (None, name)
        and isinstance(config, Mapping)
        and all(_is_plain(part) for part in config.values())
    )


def _is_plain(value: Any) -> bool:
    listed = value if isinstance(value, list) and len(value) <= 8 else [value]
    return all(
        one is None or isinstance(one, bool) or _is_number(one) or _is_word(one) for one in listed
    )


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and (value in _INITIALIZER_TEXTS or value in _PRECISIONS)


def _is_precision(value: Any) -> bool:
    if isinstance(value, str):
        return value in _PRECISIONS
    return (
        _is_object(value, "keras", frozenset(("DTypePolicy",)))
        and set(value["config"]) == {"name"}
        and isinstance(value["config"]["name"], str)
        and _is_word(value["config"]["name"])
    )


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
NUMBER = Rule(f"a number up to {_LARGE:g}", _is_number)
NUMBERS = Rule("numbers", _is_numbers)
SHARE = Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
TEXT = Rule("a short text", lambda value: isinstance(value, str) and 0 < len(value) <= _TEXT)
ACTIVATION = Rule(
    "the name of one of Keras's activations",
    lambda value: value is None or (isinstance(value, str) and value in ACTIVATIONS),
)
PRECISION = Rule("a precision such as 'float32'", lambda v: v is None or _is_precision(v))
INITIALIZER = Rule(
    "a plain initializer of Keras",
    lambda value: value is None or _is_object(value, "keras.initializers", _INITIALIZERS),
)
REGULARIZER = Rule(
    "an L1 or L2 regularizer",
    lambda value: value is None or _is_object(value, "keras.regularizers", _REGULARIZERS),
)
CONSTRAINT = Rule(
    "a plain constraint of Keras",
    lambda value: value is None or _is_object(value, "keras.constraints", _CONSTRAINTS),
)
SEED = or_none(whole(0, (1 << 63) - 1))


Parameters = Mapping[str, Rule]

_NUMPY = "keras.src.ops.numpy"
_SIDE = 1 << 14
_CHANNELS = 1 << 16
_NOISE = or_none(
    Rule(
        "null and ones",
        lambda value: isinstance(value, list) and all(one is None or one == 1 for one in value),
    )
)
_AXIS = wholes(-4, 4, 4)
_LAST = {"data_format": or_none(either("channels_last"))}
_MARGIN = either("valid", "same")
_STRIDES = or_none(wholes(1, 1 << 10, 2))
_KERNEL = wholes(1, 1 << 10, 2)

#: Of every layer. `build_config` is passed over, because networks are built from their input.
_COMMON: Parameters = {"name": TEXT, "trainable": FLAG, "dtype": PRECISION}


def _fitted(*weights: str) -> Parameters:
    """Return the parameters that come with each weight of a layer."""
    rules = (("initializer", INITIALIZER), ("regularizer", REGULARIZER), ("constraint", CONSTRAINT))
    return {f"{weight}_{what}": rule for weight in weights for what, rule in rules}


def _convolution(*kernels: str) -> Parameters:
    return {
        **_fitted(*kernels, "bias"),
        **_LAST,
        "kernel_size": _KERNEL,
        "strides": _STRIDES,
        "padding": _MARGIN,
        "dilation_rate": _KERNEL,
        "activation": ACTIVATION,
        "use_bias": FLAG,
        "activity_regularizer": REGULARIZER,
    }


_FILTERS = {"filters": whole(1, _CHANNELS)}
_MULTIPLIER = {"depth_multiplier": whole(1, 64)}
_POOL = {"pool_size": _KERNEL, "strides": _STRIDES, "padding": _MARGIN, **_LAST}
_GLOBAL = {**_LAST, "keepdims": FLAG}
_NORM = {**_fitted("beta", "gamma"), "epsilon": NUMBER, "center": FLAG, "scale": FLAG}
_HEIGHT_AND_WIDTH = {"height": whole(1, 1 << 12), "width": whole(1, 1 << 12), **_LAST}
_INTERPOLATION = {"interpolation": either("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")}
_FILL = {
    "fill_mode": either("constant", "nearest", "reflect", "wrap"),
    "fill_value": NUMBER,
}
# Augmentations, which do nothing when a network predicts.
_RANDOM = {"seed": SEED, "factor": NUMBERS, "value_range": NUMBERS, **_LAST}
_MOVING = {**_RANDOM, **_FILL, **_INTERPOLATION}

_LAYERS: Mapping[str, Parameters] = {
    "Activation": {"activation": ACTIVATION},
    "ActivityRegularization": {"l1": NUMBER, "l2": NUMBER, "activity_regularizer": REGULARIZER},
    "Add": {},
    "AlphaDropout": {"rate": SHARE, "seed": SEED, "noise_shape": _NOISE},
    "Average": {},
    "AveragePooling2D": _POOL,
    "BatchNormalization": {
        **_NORM,
        **_fitted("moving_mean", "moving_variance"),
        "axis": _AXIS,
        "momentum": NUMBER,
        "synchronized": FLAG,
        "renorm": exactly(False),
        "renorm_clipping": exactly(None),
        "renorm_momentum": NUMBER,
    },
    "CenterCrop": _HEIGHT_AND_WIDTH,
    "Concatenate": {"axis": whole(-4, 4)},
    "Conv2D": {**_convolution("kernel"), **_FILTERS, "groups": whole(1, _CHANNELS)},
    "Conv2DTranspose": {
        **_convolution("kernel"),
        **_FILTERS,
        "output_padding": exactly(None),
    },
    "Cropping2D": {"cropping": sides(_SIDE), **_LAST},
    "Dense": {
        **_fitted("kernel", "bias"),
        "units": whole(1, _CHANNELS),
        "activation": ACTIVATION,
        "use_bias": FLAG,
        "activity_regularizer": REGULARIZER,
        "lora_rank": exactly(None),
        "quantization_config": exactly(None),
    },
    "DepthwiseConv2D": {**_convolution("depthwise"), **_MULTIPLIER},
    "Dropout": {"rate": SHARE, "seed": SEED, "noise_shape": _NOISE},
    "ELU": {"alpha": NUMBER},
    "Flatten": _LAST,
    "GaussianDropout": {"rate": SHARE, "seed": SEED},
    "GaussianNoise": {"stddev": NUMBER, "seed": SEED},
    "GlobalAveragePooling2D": _GLOBAL,
    "GlobalMaxPooling2D": _GLOBAL,
    "GroupNormalization": {**_NORM, "groups": whole(-1, _CHANNELS), "axis": _AXIS},
    "Identity": {},
    "InputLayer": {
        "batch_shape": Rule("a batch of up to three axes", lambda value: _is_batch(value)),
        "sparse": exactly(False),
        "ragged": exactly(False),
        "optional": exactly(False),
    },
    "LayerNormalization": {**_NORM, "axis": _AXIS, "rms_scaling": exactly(False)},
    "LeakyReLU": {"negative_slope": NUMBER},
    "MaxPooling2D": _POOL,
    "Maximum": {},
    "Minimum": {},
    "Multiply": {},
    "Normalization": {
        "axis": Rule("axes, or none", lambda value: value in (None, []) or _AXIS.accepts(value)),
        "invert": FLAG,
        "mean": or_none(NUMBERS),
        "variance": or_none(NUMBERS),
    },
    "PReLU": {**_fitted("alpha"), "shared_axes": or_none(_AXIS)},
    "Permute": {"dims": wholes(1, 4, 4)},
    "RandomBrightness": _RANDOM,
    "RandomContrast": _RANDOM,
    "RandomErasing": {**_RANDOM, "scale": NUMBERS, "fill_value": or_none(NUMBERS)},
    "RandomFlip": {**_RANDOM, "mode": either("horizontal", "vertical", "horizontal_and_vertical")},
    "RandomGaussianBlur": {**_RANDOM, "kernel_size": _KERNEL, "sigma": NUMBERS},
    "RandomGrayscale": _RANDOM,
    "RandomHue": _RANDOM,
    "RandomInvert": _RANDOM,
    "RandomPosterization": _RANDOM,
    "RandomRotation": _MOVING,
    "RandomSaturation": _RANDOM,
    "RandomSharpness": _RANDOM,
    "RandomTranslation": {**_MOVING, "height_factor": NUMBERS, "width_factor": NUMBERS},
    "RandomZoom": {**_MOVING, "height_factor": NUMBERS, "width_factor": or_none(NUMBERS)},
    "ReLU": {"max_value": or_none(NUMBER), "negative_slope": NUMBER, "threshold": NUMBER},
    "RepeatVector": {"n": whole(1, 1 << 12)},
    "Rescaling": {"scale": NUMBERS, "offset": NUMBERS},
    "Reshape": {"target_shape": wholes(-1, 1 << 26, 4)},
    "Resizing": {
        **_HEIGHT_AND_WIDTH,
        **_INTERPOLATION,
        **_FILL,
        "crop_to_aspect_ratio": FLAG,
        "pad_to_aspect_ratio": FLAG,
        "antialias": FLAG,
    },
    "SeparableConv2D": {**_convolution("depthwise", "pointwise"), **_FILTERS, **_MULTIPLIER},
    "Softmax": {"axis": whole(-4, 4)},
    "SpatialDropout2D": {"rate": SHARE, "seed": SEED, **_LAST},
    "Subtract": {},
    "UnitNormalization": {"axis": _AXIS},
    "UpSampling2D": {"size": wholes(1, 64, 2), **_INTERPOLATION, **_LAST},
    "ZeroPadding2D": {"padding": sides(1 << 12), **_LAST},
}
_OPERATIONS: Mapping[str, Parameters] = {
    **{name: {} for name in ("Add", "Divide", "Maximum", "Minimum", "Multiply")},
    **{name: {} for name in ("Subtract", "TrueDivide")},
    "Mean": {"axis": _AXIS, "keepdims": FLAG},
    "Reshape": {"newshape": wholes(-1, 1 << 26, 5)},
}

#: The parameters of a class, by it and its module as Keras 3 writes them.
ALLOWED: Mapping[tuple[str, str], Parameters] = {
    **{(name, "keras.layers"): rules for name, rules in _LAYERS.items()},
    **{(name, _NUMPY): rules for name, rules in _OPERATIONS.items()},
    ("CustomScaleLayer", "keras.src.applications.inception_resnet_v2"): {"scale": NUMBER},
    ("LayerScale", "keras.src.applications.convnext"): {
        "init_values": NUMBER,
        "projection_dim": whole(1, _CHANNELS),
    },
}

#: What a layer cannot leave to Keras's default.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "InputLayer": ("batch_shape", "name"),
    "Dense": ("units",),
    "Conv2D": ("filters", "kernel_size"),
    "Conv2DTranspose": ("filters", "kernel_size"),
    "SeparableConv2D": ("filters", "kernel_size"),
    "DepthwiseConv2D": ("kernel_size",),
    "AveragePooling2D": ("pool_size",),
    "MaxPooling2D": ("pool_size",),
    "CenterCrop": ("height", "width"),
    "Resizing": ("height", "width"),
    "RepeatVector": ("n",),
    "Permute": ("dims",),
    "Reshape": ("target_shape",),
    "LayerScale": ("projection_dim",),
}


def check_layer(layer: Any, name: str) -> dict[str, Any]:
    """Check one layer's class and every one of its parameters."""
    class_name, module = _class_of(layer, name)
    if layer.get("compile_config"):
        raise UnsafeModelError(f"a layer of {name} would be compiled when it is loaded")
    rules = {**_COMMON, **ALLOWED[class_name, module]}
    config = layer.get("config")
    if not isinstance(config, dict):
        raise UnsafeModelError(f"{name} has a {class_name} without parameters; save it again")
    for key, value in config.items():
        rule = rules.get(key)
        if rule is None:
            raise UnsafeModelError(
                f"{name} has a {class_name} with {key[:80]!r}, which cannot be loaded safely"
            )
        if not rule.accepts(value):
            raise UnsafeModelError(
                f"{name} has a {class_name} with {key} = {repr(value)[:80]}; allowed is "
                f"{rule.expected}"
            )
    required = () if module == _NUMPY else REQUIRED.get(class_name, ())
    lacking = [key for key in required if key not in config]
    if lacking:
        raise UnsafeModelError(f"{name} has a {class_name} without {lacking[0]}; save it again")
    return {
        "module": module,
        "class_name": class_name,
        "config": {key: _plain(value) for key, value in config.items()},
        "registered_name": layer.get("registered_name"),
    }


def _class_of(layer: Any, name: str) -> tuple[str, str]:
    if not isinstance(layer, dict):
        raise UnsafeModelError(f"{name} has {repr(layer)[:80]} where a layer should stand")
    class_name, module = layer.get("class_name"), layer.get("module")
    if not (isinstance(class_name, str) and isinstance(module, str)) or (
        (class_name, module) not in ALLOWED
    ):
        shown = f"{module}.{class_name}" if module else str(class_name)
        raise UnsafeModelError(
            f"{name} holds {shown[:120]!r}, which is not on the list of plain layers that can be "
            "loaded safely"
        )
    registered = layer.get("registered_name")
    if registered not in (None, class_name):
        raise UnsafeModelError(
            f"{name} asks for the custom object {str(registered)[:80]!r}; only Keras's own layers "
            "can be loaded safely"
        )
    return class_name, module


def _plain(value: Any) -> Any:
    """Leave out the number by which Keras finds an object it made before, of whatever kind."""
    if isinstance(value, dict):
        return {key: part for key, part in value.items() if key != "shared_object_id"}
    return value


def _is_batch(value: Any) -> bool:
    # A batch of any size, then sizes of which those of an image may be open.
    if not isinstance(value, list) or not 2 <= len(value) <= 4 or value[0] is not None:
        return False
    *open_ones, last = value[1:]
    rule = whole(1, _SIDE)
    return rule.accepts(last) and all(one is None or rule.accepts(one) for one in open_ones)
