"""Put the ImageNet weights of a backbone where Keras looks, before Keras would fetch them itself.

Keras's own download has no time limit, cannot be resumed, and leaves what it got so far under the
file's own name when it is killed.
"""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.bundles.registries import read_registries
from napari_cellclf.bundles.registry import WeightsEntry
from napari_cellclf.errors import DownloadError
from napari_cellclf.io.cache import keras_models_folder
from napari_cellclf.io.remote.rules import OFFLINE_VARIABLE, is_offline
from napari_cellclf.models.fetching import fetch_entry_file

#: The files, by Keras's own names, whose checksum nobody publishes.
_UNCHECKED = {
    "mobilenet": "mobilenet_[0-9]*_no_top.h5",
    "mobilenetv2": "mobilenet_v2_weights_*_no_top.h5",
}


def fetch_imagenet_weights(name: str) -> Path | None:
    """Fetch the weights of a backbone, once.

    Returns where Keras finds them. None where no checksum of them is published (MobileNet,
    MobileNetV2), so that Keras is left to fetch them.
    """
    for entry in read_registries().entries:
        if isinstance(entry, WeightsEntry) and entry.architecture == name:
            try:
                return fetch_entry_file(entry)
            except DownloadError as error:
                raise DownloadError(
                    f"the ImageNet weights of {name} could not be fetched: {error}; "
                    "efficientnet-lite0 needs no fetching, its weights are in this package"
                ) from error
    if is_offline() and not any(keras_models_folder().glob(_UNCHECKED.get(name, "unknown"))):
        raise DownloadError(
            f"only Keras itself can fetch the ImageNet weights of {name}, and {OFFLINE_VARIABLE} "
            "forbids the network; unset it once, or take efficientnet-lite0, whose weights are in "
            "this package"
        )
    return None
