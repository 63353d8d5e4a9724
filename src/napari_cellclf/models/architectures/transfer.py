"""Adapt pretrained backbones to any number of channels, and add a head for the classes.

A pretrained network wants three channels. `widen` makes the same network for `n` channels: every
layer is cloned, every weight copied, and the kernel of the first convolution becomes the mean over
red, green and blue, times ``3 / n``, for each channel, so that the response to channels that are
all equal at that convolution stays what it was. Numbers for red, green and blue that a network
holds before it, in `Normalization` and `Rescaling` layers, are replaced by their average.

Microscopy channels are normalised to zero mean and unit variance, each image for itself, while
such a network was trained on pixels as its own ``preprocess_input`` leaves them: for ResNet50,
minus 124 to 151. A `Rescaling` layer in front brings unit variance to the spread and mean that
photographs had there; without it ResNet50 would see images of one sixtieth of the contrast.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.core.normalization import ImageNet, photograph_range
from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.base import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What is added to features before their root is taken.
ROOT_SUMMAND = 0.01


def assemble(
    source: keras.Model,
    input_shape: Shape,
    n_classes: int,
    *,
    name: str,
    normalization: ImageNet,
    pretrained: bool,
    hidden_units: int | None = None,
    dropout: float = 0.0,
    train_backbone: bool | None = None,
    unit_range: bool = False,
    square_root: bool = False,
) -> keras.Model:
    """Adapt a backbone of three channels to the images, and add a head.

    `unit_range`: whether images of other than three channels come in 0 to 1; else with zero mean
    and unit variance. `square_root`: whether the head is given the roots of the features, which
    must not be negative.
    """
    channels = input_shape[2]
    # Photographs go in as they are. Everything else comes standardised, or in 0 to 1, which must be
    # undone first for a network pretrained on photographs, or one that scales pixels itself.
    standardised = channels != 3 if pretrained else has_rescaling(source)
    if standardised or channels != 3:
        rescale = photograph_range(normalization, unit_range) if standardised else None
        source = widen(source, channels, rescale=rescale, copy_weights=pretrained)
    if square_root:
        # With a summand, so that the slope at zero is finite.
        rooted = keras.ops.sqrt(source.output + ROOT_SUMMAND)
        source = keras.Model(source.input, rooted, name=source.name)
    return add_head(
        source,
        n_classes,
        name=name,
        hidden_units=hidden_units,
        dropout=dropout,
        train_backbone=not pretrained if train_backbone is None else train_backbone,
    )


def add_head(
    backbone: keras.Model,
    n_classes: int,
    *,
    name: str,
    hidden_units: int | None,
    dropout: float,
    train_backbone: bool,
) -> keras.Model:
    """Put a classifying head on a backbone that ends in global pooling.

    `backbone`: ``(N, Y, X, C)`` to features ``(N, F)``. Its layers become part of the returned
    network. Returns ``(N, Y, X, C)`` to probabilities ``(N, n_classes)``, float32, in one flat
    graph.
    """
    _check_head(name, hidden_units, dropout)
    for layer in backbone.layers:
        layer.trainable = train_backbone
    features = backbone.output
    if hidden_units is not None:
        features = keras.layers.Dense(hidden_units, activation="relu", name="hidden")(features)
    if dropout > 0:
        # With a seed of its own: without one, PyTorch draws from a state that no checkpoint holds.
        features = keras.layers.Dropout(dropout, seed=0, name="head_dropout")(features)
    # Softmax in 16 bits loses the small probabilities, whatever the precision of the rest.
    last = keras.layers.Dense(
        n_classes, activation="softmax", dtype="float32", name="probabilities"
    )
    return keras.Model(backbone.input, last(features), name=name)


def has_rescaling(network: keras.Model) -> bool:
    """Whether a network scales pixels itself."""
    scaling = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, scaling) for _, layer in _leaves(network))


def widen(
    network: keras.Model,
    channels: int,
    *,
    rescale: tuple[float, float] | None = None,
    copy_weights: bool = True,
) -> keras.Model:
    """Make the same network for another number of channels."""
    inputs = keras.Input((*network.input_shape[1:3], channels), name="image")
    front = _front(rescale)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        fed = [front(arg) if arg is inputs else arg for arg in args]
        return layer(*fed, **kwargs)

    wide = keras.models.clone_model(
        network,
        input_tensors=inputs,
        clone_function=partial(_clone, channels=channels),
        call_function=call,
    )
    if copy_weights:
        targets = dict(_leaves(wide))
        for path, layer in _leaves(network):
            _copy(layer, targets.get(path), path)
    return wide


def widen_kernel(kernel: NDArray[Any], channels: int) -> NDArray[Any]:
    """Average a first convolution over its input channels and spread it over `channels`.

    `kernel`: ndarray, shape (h, w, c, filters); of a network of `c` channels. Returns same dtype;
    its sum over input channels is that of `kernel`.

    Examples
    --------
    >>> widen_kernel(np.ones((3, 3, 3, 8)), 6).sum(axis=2)[0, 0, 0]
    np.float64(3.0)
    """
    mean = kernel.mean(axis=2, keepdims=True) * (kernel.shape[2] / channels)
    return np.repeat(mean, channels, axis=2).astype(kernel.dtype)


def fit_weights(value: NDArray[Any], shape: tuple[int, ...], path: str) -> NDArray[Any]:
    """Give weights of a layer for three channels the shape that its clone asks for."""
    if value.shape == shape:
        return value
    if value.ndim == 4 and value.shape[:2] == shape[:2] and value.shape[3] == shape[3]:
        return widen_kernel(value, shape[2])
    if value.shape == (3,) and len(shape) == 1:
        # The mean and variance that a Normalization layer learnt for red, green and blue.
        return np.full(shape, value.mean(), value.dtype)
    raise ArchitectureError(
        f"weights of layer {path} have shape {value.shape} and cannot be widened to {shape}; "
        "give three channels, or weights=None"
    )


def _front(rescale: tuple[float, float] | None) -> Any:
    if rescale is None or np.allclose(rescale, (1, 0), atol=1e-3):
        return lambda tensor: tensor
    return keras.layers.Rescaling(*rescale, name="to_photograph_range")


def _leaves(network: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    for layer in network.layers:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{path}/")
        else:
            yield path, layer


def _clone(layer: keras.Layer, channels: int) -> keras.Layer:
    if isinstance(layer, keras.Sequential):
        # From its configuration it would be built for three channels again.
        inner = [_clone(child, channels) for child in layer.layers]
        return keras.Sequential(inner, name=layer.name)
    config = layer.get_config()
    if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
        for key in ("scale", "offset", "mean", "variance"):
            if np.size(config.get(key)) == 3:
                config[key] = [float(np.mean(config[key]))] * channels
    return type(layer).from_config(config)


def _copy(source: keras.Layer, target: keras.Layer | None, path: str) -> None:
    old = _variables(source)
    if not old:
        return
    new = {} if target is None else _variables(target)
    if target is None or old.keys() != new.keys():
        raise ArchitectureError(
            f"layer {path} of {type(source).__name__} cannot be rebuilt for another number of "
            "channels; give three channels, or weights=None"
        )
    target.load_own_variables(
        {key: fit_weights(value, new[key].shape, path) for key, value in old.items()}
    )


def _variables(layer: keras.Layer) -> dict[str, NDArray[Any]]:
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    return {key: keras.ops.convert_to_numpy(value) for key, value in store.items()}


def _check_head(name: str, hidden_units: object, dropout: object) -> None:
    is_number = isinstance(hidden_units, int) and not isinstance(hidden_units, bool)
    if hidden_units is not None and not (is_number and hidden_units in range(1, 65_537)):
        raise ArchitectureError(
            f"{name} received hidden_units={hidden_units!r}; give a number from 1 to 65536, "
            "or None for no hidden layer"
        )
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ArchitectureError(
            f"{name} received dropout={dropout!r}; give a number from 0 to below 1"
        )
