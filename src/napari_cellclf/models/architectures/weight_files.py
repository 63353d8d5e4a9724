"""Weights of a backbone from a file somebody hands over, checked before Keras reads them.

Only numbers are taken: the network is built here, from its name, never from what a ``.keras`` file
says of it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import keras

from napari_cellclf.bundles.keras_file import check_weights
from napari_cellclf.errors import ArchitectureError
from napari_cellclf.inference.rebuild import UNFILLED


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
