"""Every classifier of `keras.applications`, by name.

Nothing is listed here: default sizes and normalisations are found in Keras itself. A network that
Keras adds needs one more line among the entry points in ``pyproject.toml``.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.core.normalization import ImageNet
from napari_cellclf.errors import ArchitectureError, DownloadError
from napari_cellclf.models.architectures.base import Architecture, Shape
from napari_cellclf.models.architectures.pretrained_weights import (
    fetch_imagenet_weights,
    first_line,
    load_weights,
)
from napari_cellclf.models.architectures.transfer import assemble

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: Two dense layers, 128 and one per class, as the Drosophila project put them on ResNet50.
_HEADS: Mapping[str, Mapping[str, Any]] = {"resnet50": {"hidden_units": 128}}
# Where Keras states no size of its own (MobileNetV3 takes any), that of its training.
_USUAL_SIZE = 224


class Application(Architecture):
    """One of Keras's networks with global pooling and a head for other classes."""

    pretrained = "ImageNet, as Keras publishes them, fetched when first used"

    def __init__(self, name: str) -> None:
        self.name = name
        self.description = f"{name} of keras.applications with a head for these classes"

    @property
    def default_size(self) -> tuple[int, int]:
        """That of its photographs."""
        return default_size(self.name)

    def photograph_normalization(self) -> ImageNet:
        """Return what its ``preprocess_input`` does."""
        return imagenet_normalization(self.name)

    def parameters(self) -> Mapping[str, Any]:
        """Return those of `build`; the Drosophila project had a hidden layer on its ResNet50."""
        return {**super().parameters(), **_HEADS.get(self.name, {})}

    def build(
        self,
        input_shape: Shape,
        n_classes: int,
        *,
        weights: str | None = None,
        hidden_units: int | None = None,
        dropout: float = 0.0,
        train_backbone: bool | None = None,
        unit_range: bool = False,
    ) -> keras.Model:
        """Build one of Keras's networks with global pooling and a head for `n_classes`.

        `unit_range`: whether images of other than three channels come in 0 to 1; else with zero
        mean and unit variance.
        """
        backbone = _backbone(self.name, (input_shape[0], input_shape[1], 3), weights)
        return assemble(
            backbone,
            input_shape,
            n_classes,
            name=self.name,
            normalization=imagenet_normalization(self.name),
            pretrained=weights is not None,
            hidden_units=hidden_units,
            dropout=dropout,
            train_backbone=train_backbone,
            unit_range=unit_range,
        )


def __getattr__(name: str) -> Application:
    """Find a network by its name in lower case, for the entry points."""
    if name in application_names():
        return Application(name)
    raise AttributeError(f"Keras {keras.__version__} has no application named {name!r}")


def application_names() -> list[str]:
    """List the networks that this version of Keras has, in lower case."""
    found = vars(keras.applications).items()
    return sorted(key.lower() for key, value in found if inspect.isfunction(value))


@cache
def imagenet_normalization(name: str) -> ImageNet:
    """Measure what a network's ``preprocess_input`` does, as numbers.

    It is tried on a few pixels; it is affine for each channel, and some swap red and blue.

    Returns mean 0 and standard deviation 1 for networks that scale pixels themselves.

    Examples
    --------
    >>> imagenet_normalization("resnet50")
    ImageNet(kind='imagenet', mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0), bgr=True)
    """
    preprocess = sys.modules[_application(name).__module__].preprocess_input

    def respond(*rgb: float) -> NDArray[np.float64]:
        # A fresh array each time: preprocess_input writes over what it is given.
        pixel = np.array(rgb, np.float64).reshape(1, 1, 1, 3)
        return np.asarray(preprocess(pixel, data_format="channels_last"), np.float64).ravel()

    black = respond(0, 0, 0)
    slopes = np.array([respond(*row) - black for row in 255 * np.eye(3)]) / 255
    bgr = bool(slopes[0, 2])
    order = [2, 1, 0] if bgr else [0, 1, 2]
    slope = slopes[[0, 1, 2], order]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, std = -black[order] / slope, 1 / slope
    found = ImageNet(mean=_numbers(mean), std=_numbers(std), bgr=bgr)
    probe = np.array([[[10, 100, 200]]], np.uint8)
    ours = found(probe.astype(np.float32), probe.dtype).ravel()
    if not np.allclose(ours, respond(10, 100, 200), atol=1e-3):
        raise ArchitectureError(
            f"the preprocess_input of {name} is not a mean and a standard deviation for each "
            "channel; take another architecture, or weights=None"
        )
    return found


@cache
def default_size(name: str) -> tuple[int, int]:
    """Find the size of the photographs that a network was made for.

    Returns height and width in pixels.
    """
    try:
        # Refused before anything is built or fetched, and the refusal names the size.
        _application(name)(input_shape=(1, 1, 3), weights="imagenet")
    except ValueError as refusal:
        sizes = [int(side) for side in re.findall(r"\((\d+), \d+, 3\)", str(refusal))]
        return (max(sizes), max(sizes)) if max(sizes, default=1) > 1 else (_USUAL_SIZE,) * 2
    return (_USUAL_SIZE, _USUAL_SIZE)


def _application(name: str) -> Callable[..., keras.Model]:
    for attribute, value in vars(keras.applications).items():
        if inspect.isfunction(value) and attribute.lower() == name:
            return value
    raise ArchitectureError(
        f"Keras {keras.__version__} has no application named {name!r}; see list_architectures()"
    )


def _backbone(name: str, shape: Shape, weights: str | None) -> keras.Model:
    make = _application(name)
    if weights == "imagenet":
        fetch_imagenet_weights(name)
    try:
        with _DownloadExplained(name):
            backbone = make(
                include_top=False,
                weights="imagenet" if weights == "imagenet" else None,
                input_shape=shape,
                pooling="avg",
            )
    except ValueError as error:
        raise ArchitectureError(
            f"{name} cannot take images of {shape[0]} x {shape[1]} pixels; resize to "
            f"{default_size(name)[0]} x {default_size(name)[1]} ({first_line(error)})"
        ) from error
    if weights is not None and weights != "imagenet":
        _refuse_learnt_scaling(backbone, name)
        load_weights(backbone, weights, name)
    return backbone


def _refuse_learnt_scaling(backbone: keras.Model, name: str) -> None:
    # With its ImageNet weights, Keras builds EfficientNetB0 to B7 with one more layer of numbers,
    # which no file of weights holds: loaded from a file they would see wrongly scaled pixels.
    scaling = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization)]
    if any(layer.get_config()["mean"] is None for layer in scaling):
        raise ArchitectureError(
            f"{name} is built differently for its ImageNet weights, which a file of weights does "
            "not tell; give 'imagenet' (Keras looks into its own cache first) or None"
        )


class _DownloadExplained:
    """Turn the bare Exception of a failed download in Keras into an error of ours."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        failed = kind is Exception and "URL fetch failure" in str(error)
        broken = isinstance(error, ValueError) and "corrupted file" in str(error)
        if failed or broken or isinstance(error, OSError):
            raise DownloadError(
                f"the ImageNet weights of {self.name} could not be fetched ({first_line(error)}); "
                "connect to the internet once, give a file of weights, or take "
                "efficientnet-lite0, whose weights are in this package"
            ) from error


def _numbers(values: NDArray[Any]) -> Any:
    if not np.isfinite(values).all():
        raise ArchitectureError(
            "a preprocess_input ignores a channel; take another architecture, or weights=None"
        )
    return tuple(float(value) for value in np.round(values, 6) + 0.0)
