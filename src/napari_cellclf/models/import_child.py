"""The child process of an import: ``python -m ...import_child FOLDER BYTES``.

It builds a checked network, tries it and writes a bundle into the folder it was given. What it has
to say it appends to a file there, one line of JSON for each step.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from napari_cellclf.bundles.foreign import ForeignNetwork, look_at
from napari_cellclf.bundles.hdf5 import limit_memory
from napari_cellclf.bundles.keras_file import Kind, read_keras_file
from napari_cellclf.bundles.schema import OPEN_SIDE
from napari_cellclf.errors import BundleError, CellclfError, ModelError, UnsafeModelError
from napari_cellclf.models.importing import ANSWER, COPY, MADE, REQUEST

if TYPE_CHECKING:
    import keras


def main(folder: str, memory: str) -> int:
    """Make a bundle of the network in a folder.

    `memory`: how many bytes this process may take.
    """
    limit_memory(int(memory))
    place = Path(folder)
    threading.Thread(target=_end_with_parent, args=(place,), daemon=True).start()
    try:
        _make(place)
    except CellclfError as error:
        _tell(place, kind=type(error).__name__, error=str(error))
        return 1
    except MemoryError:
        _tell(
            place, kind=ModelError.__name__, error="the network needs more memory than it may take"
        )
        return 1
    return 0


def _end_with_parent(place: Path) -> None:
    """Wait for the end of the process that started this one; then nobody else tidies up."""
    # Not through sys.stdin, whose lock a thread that waits would hold at the end.
    os.read(0, 1)
    shutil.rmtree(place, ignore_errors=True)
    os._exit(1)


def _make(folder: Path) -> None:
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    described = ForeignNetwork.model_validate(request["described"])
    copy = folder / COPY
    found = look_at(copy)
    _tell(folder, done=1, message="starting Keras")
    # Imported as late as this, so that its seconds are told of.
    from napari_cellclf.bundles.schema import TrainingSpec
    from napari_cellclf.models.sample_image import make_test_image
    from napari_cellclf.models.save import save_bundle

    _tell(folder, done=2, message="building the network")
    network = _network(copy, request["name"], described.preprocessing.size, found.n_outputs)
    if found.is_single_sigmoid:
        network = _with_both_classes(network)
    _tell(folder, done=3, message="trying it and writing the model")
    source = f"Trained elsewhere, and imported from {described.source or request['name']}"
    version = f", a file of Keras {found.keras_version}"
    save_bundle(
        network,
        folder / MADE,
        preprocessing=described.preprocessing,
        classes=described.classes,
        architecture="imported",
        test_image=make_test_image(described.preprocessing),
        training=TrainingSpec(source=source + version),
        **{
            field: getattr(described, field)
            for field in ("name", "title", "description", "licence", "citation", "limits")
        },
    )
    _tell(folder, done=4, message="putting it in its place")


def _network(copy: Path, name: str, size: tuple[int, int] | None, n_outputs: int) -> keras.Model:
    """Build the network from what was checked, and give it its weights."""
    from napari_cellclf.inference.rebuild import (
        built,
        check_extent,
        layers_builder,
        probe_builder,
    )

    file = read_keras_file(copy)
    layers = file.parts.config
    probe = probe_builder(layers, size or (OPEN_SIDE, OPEN_SIDE))
    built(probe, name, lambda network: check_extent(network, name), keep=False)

    def check(network: keras.Model) -> None:
        _check_output(network, n_outputs, name)
        if network.count_params() > file.n_weights:
            raise UnsafeModelError(
                f"the network of {name} asks for {network.count_params():,} weights, but its file "
                f"holds {file.n_weights:,}; get it again or save it again with Keras"
            )

    network = built(layers_builder(layers), name, check)
    try:
        with warnings.catch_warnings():
            # Keras only warns where it finds no weights for a part of the network.
            warnings.simplefilter("error", UserWarning)
            _fill(network, copy, file.kind)
    except (UserWarning, ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise BundleError(
            f"the weights in {name} do not fit its layers (some are missing, or have another "
            "shape); save it again with Keras"
        ) from error
    return network


def _check_output(network: keras.Model, n_outputs: int, name: str) -> None:
    if network.output_shape != (None, n_outputs):
        raise BundleError(
            f"the network of {name} gives arrays of shape {network.output_shape}; a classifier "
            "answers with one number for each class"
        )


def _fill(network: keras.Model, copy: Path, kind: Kind) -> None:
    if kind == "Keras 3":
        network.load_weights(copy)
        return
    with h5py.File(copy, "r") as file:
        for layer in network.layers:
            if not layer.weights:
                continue
            group = file["model_weights"][layer.name]
            paths = [_text(one) for one in group.attrs["weight_names"]]
            # By name, since several of a layer have the same shape.
            stored = {_variable(path, layer): group[path][()] for path in paths}
            layer.set_weights([stored.pop(variable.name) for variable in layer.weights])
            if stored or len(paths) != len(layer.weights):
                raise ValueError("there are more weights than the layer has")


def _text(stored: Any) -> str:
    if not isinstance(stored, str | bytes):
        raise TypeError("the name of a weight is no text")
    return stored.decode("utf-8") if isinstance(stored, bytes) else stored


def _variable(path: str, layer: keras.layers.Layer) -> str:
    """Return what Keras 3 calls a variable of Keras 2, such as ``conv/kernel:0``."""
    name = path.rsplit("/", 1)[-1].removesuffix(":0")
    depthwise = type(layer).__name__ == "DepthwiseConv2D" and name == "depthwise_kernel"
    return "kernel" if depthwise else name


def _with_both_classes(network: keras.Model) -> keras.Model:
    """Answer with the probability of both classes, where one output gives that of the second."""
    import keras

    both = keras.layers.Dense(2, name="both_classes")
    made = keras.Model(network.inputs, both(network.outputs[0]))
    # (1 - p, p)
    both.set_weights([np.array([[-1, 1]], np.float32), np.array([1, 0], np.float32)])
    return made


def _tell(folder: Path, **answer: Any) -> None:
    with (folder / ANSWER).open("a", encoding="utf-8") as file:
        file.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
