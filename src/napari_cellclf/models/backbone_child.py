"""The child process of a backbone: computes it, or makes a bundle of it and a head.

It is started with the backbone as JSON; or with ``save``, the folder of a request, and the place of
the bundle.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from napari_cellclf.bundles.arrays import parse_weights
from napari_cellclf.bundles.schema import ArchitectureSpec
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.errors import CellclfError, EngineError, ExportError
from napari_cellclf.inference.engine import ProbabilitiesOnly, look_at_machine
from napari_cellclf.inference.engine_child import serve
from napari_cellclf.models.architectures.registry import build_network, weights_origin
from napari_cellclf.models.backbones import DEFAULT_BACKBONE, PARAMETERS, Backbone
from napari_cellclf.models.save import make_test_image, save_bundle
from napari_cellclf.models.suggested_model import HEAD, KNOWN, REQUEST, SEEN, SuggestedModel
from napari_cellclf.models.training.features import Compute, FeatureNetwork, ways_to_compute
from napari_cellclf.models.training.network import split_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.inference.engine import Engine

_log = logging.getLogger(__name__)


class FeatureEngine(ProbabilitiesOnly):
    """Computes features, in the place of probabilities, by the fastest engine that fits Keras."""

    def __init__(self, backbone: Backbone) -> None:
        network, _ = split_head(network_of(backbone, 2)[0])
        preprocessing = backbone.preprocessing.model_copy(update={"object_crop": None})
        test = preprocessing(make_test_image(preprocessing))[np.newaxis]
        self.device, self._compute = _fastest(FeatureNetwork(network), test)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute features ``(N, F)`` of a batch ``(N, Y, X, C)``."""
        return self._compute(batch)


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
    channels = len(backbone.preprocessing.channels)
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


def save(folder: Path, place: Path) -> None:
    """Make the bundle that was asked for in a folder."""
    asked = SuggestedModel.model_validate_json((folder / REQUEST).read_text(encoding="utf-8"))
    network, how = network_of(asked.backbone, len(asked.classes))
    with np.load(folder / HEAD, allow_pickle=False) as arrays:
        network.layers[-1].set_weights([arrays["kernel"], arrays["bias"]])
    preprocessing = asked.backbone.preprocessing
    unlikeness = None
    if (folder / KNOWN).exists():
        unlikeness = Unlikeness.from_arrays(parse_weights((folder / KNOWN).read_bytes(), KNOWN))
    seen = (folder / SEEN).read_text(encoding="ascii").split()
    save_bundle(
        network,
        place,
        preprocessing=preprocessing,
        classes=asked.classes,
        architecture=how,
        test_image=make_test_image(preprocessing),
        training=asked.training,
        seen_images=SeenImages.of((one, "train") for one in seen),
        unlikeness=unlikeness,
        name=asked.name,
        title=asked.name,
        evaluations=asked.evaluations,
        temperature=asked.temperature,
        unsure_threshold=asked.unsure_threshold,
        prediction_sets=asked.prediction_sets,
        limits=asked.limits,
    )


def main(arguments: Sequence[str]) -> int:
    """Serve the features of a backbone over standard input and output, or save it with a head."""
    if arguments[0] == "save":
        try:
            save(Path(arguments[1]), Path(arguments[2]))
        except CellclfError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0

    def load() -> Engine:
        return FeatureEngine(Backbone.model_validate_json(arguments[0]))

    return serve(load)


if __name__ == "__main__":
    # The engine and its precision, which other children are told, are chosen here.
    sys.exit(main(sys.argv[1:]))
