"""The child process that computes a backbone: started with the backbone as JSON."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import keras
import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import ArchitectureSpec
from napari_cellclf.errors import EngineError, ExportError
from napari_cellclf.inference.engine import look_at_machine
from napari_cellclf.inference.engine_child import serve
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.models.architectures.registry import build_network, weights_origin
from napari_cellclf.models.backbones import DEFAULT_BACKBONE, PARAMETERS, Backbone
from napari_cellclf.models.save import make_test_image
from napari_cellclf.models.training.features import Backbone as Network
from napari_cellclf.models.training.features import Compute, ways_to_compute
from napari_cellclf.models.training.network import in_float32, split_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.inference.engine import Engine

_log = logging.getLogger(__name__)


class FeatureEngine:
    """Computes features by the fastest engine that agrees with Keras."""

    def __init__(self, backbone: Backbone) -> None:
        network, _ = split_head(network_of(backbone, 2)[0])
        preprocessing = backbone.preprocessing.model_copy(update={"object_crop": None})
        test = preprocessing(make_test_image(preprocessing))[np.newaxis]
        self.device, self._compute = _fastest(Network(network), test)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute features ``(N, F)`` of a batch ``(N, Y, X, C)``."""
        return self._compute(batch)


def _fastest(network: Network, test: NDArray[np.float32]) -> tuple[str, Compute]:
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
    channels = len(backbone.preprocessing.channels)
    if backbone.bundle is None:
        network = build_network(
            DEFAULT_BACKBONE,
            input_shape=(None, None, channels),
            n_classes=n_classes,
            weights="imagenet",
            **PARAMETERS,
        )
        how = ArchitectureSpec(
            name=DEFAULT_BACKBONE,
            parameters=dict(PARAMETERS),
            pretrained=weights_origin(DEFAULT_BACKBONE, "imagenet", channels),
            as_pretrained=True,
        )
        return network, how
    bundle = ModelBundle.load(backbone.bundle)
    features, _ = split_head(in_float32(KerasEngine.load(bundle).network))
    last = keras.layers.Dense(n_classes, activation="softmax", name="probabilities")
    network = keras.Model(features.input, last(features.output), name="network")
    before = bundle.spec.architecture
    origin = f"the features of the model {bundle.spec.name}"
    return network, before.model_copy(update={"pretrained": origin})


def main(backbone: str) -> int:
    """Serve the features of a backbone over standard input and output."""

    def load() -> Engine:
        return FeatureEngine(Backbone.model_validate_json(backbone))

    return serve(load)


if __name__ == "__main__":
    # The engine and its precision, which other children are told, are chosen here.
    sys.exit(main(sys.argv[1]))
