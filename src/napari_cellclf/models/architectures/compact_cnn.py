"""The default network: small, for any image size and any number of channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import keras

from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.base import Architecture, Shape

#: Smallest height and width: two pixels must be left after the last stride.
MINIMUM_SIZE = 32
_NORMALIZATIONS = ("batch", "group", "none")
_CHANNELS_PER_GROUP = 8
_MOST_MEMBERS = 20
#: More than the layers of one member that draw random numbers.
_SEEDS_EACH = 100


class CompactCnn(Architecture):
    """A small network with global pooling."""

    name = "compact-cnn"
    description = (
        "a small network with global pooling, for any image size and any channels: the default"
    )

    def build(
        self,
        input_shape: Shape,
        n_classes: int,
        *,
        width: int = 24,
        depth: int = 5,
        dropout: float = 0.3,
        normalization: str = "batch",
        members: int = 1,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a convolutional network that ends in a global average.

        A 5x5 convolution of stride 2 and `depth` - 1 convolutions of 3x3, each of stride 2 and with
        `width` channels more than the one before, each followed by a normalisation and ReLU; the
        average over the image, dropout, and one dense layer.

        `input_shape`: height and width are None for any size, or at least 32 pixels.

        References
        ----------
        .. [1] Wu and He, Group Normalization, ECCV 2018.

        Examples
        --------
        >>> COMPACT_CNN.build((None, None, 6), 4).output_shape
        (None, 4)
        """
        _check(input_shape, n_classes, width, depth, dropout, normalization)
        if not 1 <= members <= _MOST_MEMBERS:
            raise ArchitectureError(
                f"compact-cnn cannot be built with members {members}: use 1 to {_MOST_MEMBERS}"
            )
        networks = [
            _member(
                input_shape,
                n_classes,
                width=width,
                depth=depth,
                dropout=dropout,
                normalization=normalization,
                seed=None if seed is None else seed + number * _SEEDS_EACH,
            )
            for number in range(members)
        ]
        return networks[0] if members == 1 else _mean(networks)


COMPACT_CNN = CompactCnn()


def _mean(networks: Sequence[keras.Model]) -> keras.Model:
    """Join networks into one that returns the mean of their probabilities."""
    inputs = keras.Input(networks[0].input_shape[1:], name="image", dtype="float32")
    answers = []
    for number, network in enumerate(networks, start=1):
        network.name = f"member{number}"
        answers.append(network(inputs))
    return keras.Model(
        inputs, keras.layers.Average(dtype="float32", name="mean")(answers), name="compact-cnn"
    )


def _member(
    input_shape: Shape,
    n_classes: int,
    *,
    width: int,
    depth: int,
    dropout: float,
    normalization: str,
    seed: int | None,
) -> keras.Model:
    seeds: Iterator[int | None] = (
        repeat(None) if seed is None else iter(range(seed, seed + _SEEDS_EACH))
    )
    inputs = keras.Input(input_shape, name="image", dtype="float32")
    features = inputs
    for level in range(1, depth + 1):
        features = keras.layers.Conv2D(
            width * level,
            5 if level == 1 else 3,
            strides=2,
            padding="same",
            use_bias=normalization == "none",
            kernel_initializer=keras.initializers.HeNormal(next(seeds)),
            name=f"conv{level}",
        )(features)
        features = _normalize(features, normalization, width * level, f"norm{level}")
        features = keras.layers.ReLU(name=f"relu{level}")(features)
    features = keras.layers.GlobalAveragePooling2D(name="average")(features)
    features = keras.layers.Dropout(dropout, seed=next(seeds), name="dropout")(features)
    outputs = keras.layers.Dense(
        n_classes,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        dtype="float32",
        name="probabilities",
    )(features)
    return keras.Model(inputs, outputs, name="compact-cnn")


def _normalize(
    features: keras.KerasTensor, normalization: str, channels: int, name: str
) -> keras.KerasTensor:
    if normalization == "group":
        groups = channels // _CHANNELS_PER_GROUP
        return keras.layers.GroupNormalization(groups, name=name)(features)
    if normalization == "batch":
        return keras.layers.BatchNormalization(momentum=0.9, name=name)(features)
    return features


def _check(
    input_shape: Shape,
    n_classes: int,
    width: int,
    depth: int,
    dropout: float,
    normalization: str,
) -> None:
    small = [side for side in input_shape[:2] if side is not None and side < MINIMUM_SIZE]
    rules = {
        f"input_shape {input_shape}: use at least {MINIMUM_SIZE} pixels": not small,
        f"n_classes {n_classes}: use at least 2": n_classes >= 2,
        f"width {width}: use a multiple of 8 from 8 to 256": width % 8 == 0 and 8 <= width <= 256,
        f"depth {depth}: use 2 to 5": 2 <= depth <= 5,
        f"dropout {dropout}: use 0 to below 1": 0 <= dropout < 1,
        f"normalization {normalization!r}: use one of {', '.join(_NORMALIZATIONS)}": (
            normalization in _NORMALIZATIONS
        ),
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise ArchitectureError(f"compact-cnn cannot be built with {'; '.join(broken)}")
