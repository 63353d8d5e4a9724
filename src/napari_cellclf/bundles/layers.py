"""Which classes a network's configuration may name, and the bounds of their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from napari_cellclf.errors import UnsafeModelError

MAX_OBJECTS = 100_000

_LAYERS = (
    "Activation Add Average AveragePooling2D BatchNormalization CenterCrop Concatenate Conv2D "
    "Conv2DTranspose Cropping2D Dense DepthwiseConv2D Dot Dropout ELU Flatten GaussianDropout "
    "GaussianNoise GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization Identity "
    "InputLayer LayerNormalization LeakyReLU MaxPooling2D Maximum Minimum Multiply Normalization "
    "PReLU Permute ReLU RepeatVector Rescaling Reshape Resizing SeparableConv2D Softmax "
    "SpatialDropout2D SpectralNormalization Subtract UnitNormalization UpSampling2D ZeroPadding2D"
)
_INITIALIZERS = (
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform "
    "Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros"
)
_OPERATIONS = "Add Divide Maximum Mean Minimum Multiply Reshape Subtract"

#: (class, module) as Keras 3 writes them.
ALLOWED = frozenset(
    [(name, "keras.layers") for name in _LAYERS.split()]
    + [(name, "keras.initializers") for name in _INITIALIZERS.split()]
    + [(name, "keras.regularizers") for name in ("L1", "L2", "L1L2")]
    + [(name, "keras.constraints") for name in ("MaxNorm", "NonNeg", "UnitNorm")]
    + [(name, "keras.src.ops.numpy") for name in _OPERATIONS.split()]
    + [
        ("DTypePolicy", "keras"),
        ("Functional", "keras"),
        ("Functional", "keras.src.models.functional"),
        ("Sequential", "keras"),
        ("CustomScaleLayer", "keras.src.applications.inception_resnet_v2"),
        ("LayerScale", "keras.src.applications.convnext"),
        ("__keras_tensor__", None),
    ]
)

#: Largest number that may stand under a key, so that a small file cannot ask for a huge network.
BOUNDS = {
    "units": 1 << 16,
    "filters": 1 << 16,
    "depth_multiplier": 64,
    "groups": 1 << 16,
    "kernel_size": 1 << 10,
    "strides": 1 << 10,
    "dilation_rate": 1 << 10,
    "pool_size": 1 << 14,
    "size": 64,
    "padding": 1 << 12,
    "cropping": 1 << 14,
    "height": 1 << 12,
    "width": 1 << 12,
    "n": 1 << 12,
    "batch_shape": 1 << 14,
    "target_shape": 1 << 26,
}


def check_config(config: dict[str, Any], name: str) -> None:
    """Refuse a configuration that names a class which is not on the list.

    Parameters
    ----------
    config : dict
        The parsed `config.json`. Its outermost ``compile_config`` is passed over, since networks
        are loaded without it.
    name : str
        What to call the file in messages.

    Raises
    ------
    UnsafeModelError
        Naming the class or the number that is not allowed.
    """
    outermost = {key: value for key, value in config.items() if key != "compile_config"}
    if outermost.get("class_name") not in ("Functional", "Sequential"):
        raise UnsafeModelError(
            f"{name} holds a {str(outermost.get('class_name'))[:80]!r}; only Functional and "
            "Sequential networks can be loaded"
        )
    count = 0
    for part in _objects(outermost):
        if part.get("compile_config"):
            raise UnsafeModelError(f"a layer of {name} would be compiled when it is loaded")
        if "class_name" in part:
            count += 1
            _check_class(part, name)
        _check_numbers(part, name)
    if count > MAX_OBJECTS:
        raise UnsafeModelError(f"{name} names {count} objects; limit {MAX_OBJECTS}")


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _check_class(part: dict[str, Any], name: str) -> None:
    class_name, module = part["class_name"], part.get("module")
    named = isinstance(class_name, str) and isinstance(module, str | None)
    if not named or (class_name, module) not in ALLOWED:
        shown = f"{module}.{class_name}" if module else str(class_name)
        raise UnsafeModelError(
            f"{name} holds {shown[:120]!r}, which is not on the list of plain layers that can be "
            "loaded safely"
        )
    registered = part.get("registered_name")
    if registered is not None and registered != class_name:
        raise UnsafeModelError(
            f"{name} asks for the custom object {str(registered)[:80]!r}; only Keras's own layers "
            "can be loaded safely"
        )


def _check_numbers(part: dict[str, Any], name: str) -> None:
    for key, bound in BOUNDS.items():
        for number in _numbers(part.get(key)):
            if abs(number) > bound:
                raise UnsafeModelError(f"{name} has {key} = {number}; limit {bound}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
