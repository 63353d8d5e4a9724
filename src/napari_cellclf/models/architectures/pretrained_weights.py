"""Pretrained weights of a backbone: those of ImageNet, or a file that the user names.

Only numbers are read from a file, after it was validated: the network is built here, from its name,
never from what a ``.keras`` file says.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import keras

from napari_cellclf.bundles.keras_file import check_weights
from napari_cellclf.bundles.model_lists import WeightsEntry, read_registries
from napari_cellclf.errors import ArchitectureError, DownloadError
from napari_cellclf.inference.rebuild import UNFILLED
from napari_cellclf.io.cache import keras_models_folder
from napari_cellclf.io.remote.source import OFFLINE_VARIABLE, is_offline
from napari_cellclf.models.fetching import fetch_entry_file

#: The files, by Keras's own names, whose checksum nobody publishes.
_UNCHECKED = {
    "mobilenet": "mobilenet_[0-9]*_no_top.h5",
    "mobilenetv2": "mobilenet_v2_weights_*_no_top.h5",
}


def fetch_imagenet_weights(name: str) -> Path | None:
    """Fetch the weights of a backbone, once.

    Returns where Keras finds them; None where no checksum of them is published (MobileNet,
    MobileNetV2), and Keras has to fetch them.
    """
    for entry in read_registries().entries:
        if isinstance(entry, WeightsEntry) and entry.architecture == name:
            try:
                return fetch_entry_file(entry)
            except DownloadError as error:
                raise DownloadError(
                    f"the ImageNet weights of {name} could not be fetched: {error}; "
                    "the weights of efficientnet-lite0 come with this package"
                ) from error
    if is_offline() and not any(keras_models_folder().glob(_UNCHECKED.get(name, "unknown"))):
        raise DownloadError(
            f"only Keras itself can fetch the ImageNet weights of {name}, and {OFFLINE_VARIABLE} "
            "forbids the network; unset it once, or take efficientnet-lite0, whose weights are in "
            "this package"
        )
    return None


def load_weights(network: keras.Model, path: str | Path, name: str) -> None:
    """Load weights from a local ``.weights.h5`` or ``.keras`` file into a network of that shape."""
    given, path = str(path), Path(path)
    if given == UNFILLED:
        return
    if not given.endswith((".weights.h5", ".keras")):
        raise ArchitectureError(
            f"{name} cannot take weights={given!r}; give 'imagenet', None, or a file that Keras "
            "wrote with the ending .weights.h5 or .keras"
        )
    if not path.is_file():
        raise ArchitectureError(f"there is no file of weights {given}; give the path of one")
    # A private copy, so that what was checked is what is read.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        check_weights(copy)
        _load(network, copy, name)


def _load(network: keras.Model, copy: Path, name: str) -> None:
    try:
        with warnings.catch_warnings():
            # Keras only warns when a part of the network is missing from the file.
            warnings.simplefilter("error", UserWarning)
            network.load_weights(copy)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        raise ArchitectureError(
            f"{copy.name} does not hold the weights of {name} without its head and for three "
            "channels; save those with save_weights('name.weights.h5')"
        ) from error


def first_line(error: BaseException | None) -> str:
    """Return what an error of a library says, to be put into a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".")
