"""A small residual network with channel attention (Hu et al. 2018, arXiv:1709.01507)."""

from __future__ import annotations

import keras
from keras import layers

from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.base import Architecture, Shape


class ResidualAttention(Architecture):
    """Residual blocks, each of which weighs its channels by what the whole image shows."""

    name = "residual-attention"
    description = "a small residual network with channel attention"
    version = 1

    def build(
        self, input_shape: Shape, n_classes: int, *, width: int = 16, blocks: int = 3
    ) -> keras.Model:
        """Build it; each block halves the image and doubles the channels, `width` at first."""
        if width < 4 or blocks < 1:
            raise ArchitectureError(
                f"{self.name} received width={width}, blocks={blocks}; give at least 4 and 1"
            )
        image = keras.Input(input_shape, name="image")
        features = layers.Conv2D(width, 3, padding="same", name="stem")(image)
        for number in range(1, blocks + 1):
            features = self._block(features, width << (number - 1), f"block{number}")
        pooled = layers.GlobalAveragePooling2D(name="average")(features)
        last = layers.Dense(n_classes, activation="softmax", dtype="float32", name="probabilities")
        return keras.Model(image, last(pooled), name=self.name)

    def _block(self, entered: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
        features = layers.Conv2D(width, 3, 2, padding="same", name=f"{name}_conv1")(entered)
        features = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(features)
        features = layers.ReLU(name=f"{name}_relu1")(features)
        features = layers.Conv2D(width, 3, padding="same", name=f"{name}_conv2")(features)
        attention = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(features)
        attention = layers.Dense(width // 4, "relu", name=f"{name}_squeeze")(attention)
        attention = layers.Dense(width, "sigmoid", name=f"{name}_excite")(attention)
        features = layers.Multiply(name=f"{name}_attend")([features, attention])
        # TensorFlow 2.21 can crash in the gradient of a 1 x 1 convolution of stride 2.
        shortcut = layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")(entered)
        shortcut = layers.Conv2D(width, 1, name=f"{name}_shortcut")(shortcut)
        features = layers.Add(name=f"{name}_add")([features, shortcut])
        return layers.ReLU(name=f"{name}_relu2")(features)


RESIDUAL_ATTENTION = ResidualAttention()
