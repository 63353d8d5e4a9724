"""The network of the RxRx1 cell-type project that this package grew from, layer by layer.

Two convolutions and two dense layers for images of one fixed size. Nearly all of its parameters
sit between the flattened feature maps and the first dense layer, so that they grow with the area
of the image: 130 million for 512 x 512 pixels. It is here to repeat that work; `compact-cnn`
learns more from less.
"""

from __future__ import annotations

import keras

from napari_cellclf.core.normalization import ScaleLinear
from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.base import Architecture, Shape

#: Two GB of 32-bit weights, and training holds four copies of them.
_MOST_PARAMETERS = 2**29


class SeedCnn(Architecture):
    """Two convolutions and two dense layers."""

    name = "seed-cnn"
    description = "two convolutions and two dense layers, 130 million parameters at 512 pixels"
    any_size = False

    @property
    def default_size(self) -> tuple[int, int]:
        """That of the project's images."""
        return (512, 512)

    def normalization(self) -> ScaleLinear:
        """Return what the project did: it divided by 255."""
        return ScaleLinear()

    def build(self, input_shape: Shape, n_classes: int) -> keras.Model:
        """Build the network with random weights.

        `input_shape`: height and width in pixels must be known.
        """
        _check_size(input_shape)
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input(input_shape, name="image"),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
                layers.Dense(
                    n_classes, activation="softmax", dtype="float32", name="probabilities"
                ),
            ],
            name=self.name,
        )


SEED_CNN = SeedCnn()


def _check_size(input_shape: Shape) -> None:
    height, width, _ = input_shape
    if height is None or width is None:
        raise ArchitectureError(
            f"seed-cnn needs a fixed image size, but received {height} x {width}; "
            "give one such as 512 x 512, or take compact-cnn, which takes any size"
        )
    smallest = 10
    if min(height, width) < smallest:
        raise ArchitectureError(
            f"seed-cnn cannot take images of {height} x {width} pixels; "
            f"give at least {smallest} x {smallest}"
        )
    dense = _pooled_twice(height) * _pooled_twice(width) * 64 * 128
    if dense > _MOST_PARAMETERS:
        raise ArchitectureError(
            f"seed-cnn would need {dense:,} parameters for images of {height} x {width} pixels; "
            "resize to 512 x 512, or take compact-cnn, which does not grow with the image"
        )


def _pooled_twice(side: int) -> int:
    return ((side - 2) // 2 - 2) // 2
