"""A backbone that is a registered architecture, computed and saved with a head; loads Keras."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from napari_cellclf.bundles.schema import ArchitectureSpec
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.errors import EngineError, ExportError
from napari_cellclf.inference.engine import look_at_machine
from napari_cellclf.models.architectures.registry import (
    build_network,
    find_architecture,
    weights_origin,
)
from napari_cellclf.models.sample_image import make_test_image
from napari_cellclf.models.save import save_bundle
from napari_cellclf.models.training.features import Compute, FeatureNetwork, ways_to_compute
from napari_cellclf.models.training.network import split_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.suggesting import Head
    from napari_cellclf.core.unlikeness import Unlikeness
    from napari_cellclf.models.backbones import Backbone
    from napari_cellclf.models.suggested_model import SuggestedModel

_log = logging.getLogger(__name__)


def load_compute(backbone: Backbone) -> tuple[str, Compute]:
    """Return what computes features by the fastest engine that fits Keras, and its device."""
    network, _ = split_head(network_of(backbone, 2)[0])
    preprocessing = backbone.preprocessing.model_copy(update={"object_crop": None})
    test = preprocessing(make_test_image(preprocessing))[np.newaxis]
    return _fastest(FeatureNetwork(network), test)


def _fastest(network: FeatureNetwork, test: NDArray[np.float32]) -> tuple[str, Compute]:
    *faster, keras_way = ways_to_compute(look_at_machine(), exact=True)
    for way in faster:
        try:
            compute, device = network.load(way, test)
        except (EngineError, ExportError) as error:
            _log.warning("%s; falling back to another engine", error)
        else:
            return device, compute
    compute, device = network.load(keras_way, test)
    return device, compute


def network_of(backbone: Backbone, n_classes: int) -> tuple[keras.Model, ArchitectureSpec]:
    """Build a backbone with a head for classes, whose weights are random."""
    name, weights = backbone.architecture, backbone.weights
    channels = len(backbone.preprocessing.channels)
    size = backbone.preprocessing.size or (None, None)
    shape = (None, None) if find_architecture(name).any_size else size
    network = build_network(
        name,
        input_shape=(*shape, channels),
        n_classes=n_classes,
        weights=weights,
        **backbone.parameters,
    )
    how = ArchitectureSpec(
        name=name,
        parameters=dict(backbone.parameters),
        pretrained=weights_origin(name, weights, channels),
        as_pretrained=weights is not None,
    )
    return network, how


def save_with_head(
    asked: SuggestedModel, head: Head, seen: SeenImages, unlikeness: Unlikeness | None, place: Path
) -> None:
    """Make the bundle of a backbone and a head."""
    network, how = network_of(asked.backbone, len(asked.classes))
    network.layers[-1].set_weights([head.kernel, head.bias])
    preprocessing = asked.backbone.preprocessing
    save_bundle(
        network,
        place,
        preprocessing=preprocessing,
        classes=asked.classes,
        architecture=how,
        test_image=make_test_image(preprocessing),
        training=asked.training,
        seen_images=seen,
        unlikeness=unlikeness,
        **asked.described(),
    )
