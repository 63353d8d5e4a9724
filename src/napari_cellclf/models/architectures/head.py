"""What follows a backbone: an optional hidden layer, optional dropout, class probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.stems import has_rescaling, photograph_range, widen

if TYPE_CHECKING:
    from napari_cellclf.core.normalization import ImageNet

Shape = tuple[int | None, int | None, int]


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
    _check(name, hidden_units, dropout)
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
) -> keras.Model:
    """Fit a backbone of three channels to the images at hand and give it a head.

    `unit_range`: whether images of other than three channels come in 0 to 1; else with zero mean
    and unit variance.
    """
    channels = input_shape[2]
    # Photographs with their own numbers go in as they are. Everything else comes standardised, or
    # in 0 to 1, which a network that knows photographs, or scales pixels itself, must first undo.
    standardised = channels != 3 if pretrained else has_rescaling(source)
    if standardised or channels != 3:
        rescale = photograph_range(normalization, unit_range) if standardised else None
        source = widen(source, channels, rescale=rescale, copy_weights=pretrained)
    return add_head(
        source,
        n_classes,
        name=name,
        hidden_units=hidden_units,
        dropout=dropout,
        train_backbone=not pretrained if train_backbone is None else train_backbone,
    )


def _check(name: str, hidden_units: object, dropout: object) -> None:
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
