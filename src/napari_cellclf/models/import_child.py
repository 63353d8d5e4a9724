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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.foreign import ForeignNetwork, is_legacy, look_at
from napari_cellclf.bundles.gate import check_network, check_values
from napari_cellclf.bundles.legacy import check_legacy, read_legacy
from napari_cellclf.errors import CellclfError, ModelError
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


def limit_memory(limit: int) -> None:
    """Let this process take no more than some memory, where the system can hold it to that.

    On Linux this bounds the data it asks for (``RLIMIT_DATA``); TensorFlow reserves too much room
    for addresses for ``RLIMIT_AS``. macOS takes the limit and does not hold to it, and Windows has
    none: there, the bounds of the static check and the time are what is left.
    """
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    # What is in memory need not be written to the disk when it ends badly.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _make(folder: Path) -> None:
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    described = ForeignNetwork.model_validate(request["described"])
    copy = folder / COPY
    found = look_at(copy)
    _tell(folder, done=1, message="starting Keras")
    # Imported as late as this, so that its seconds are told of.
    from napari_cellclf.bundles.schema import TrainingSpec
    from napari_cellclf.models.save import make_test_image, save_bundle

    _tell(folder, done=2, message="building the network")
    network = _network(copy, request["name"])
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


def _network(copy: Path, name: str) -> keras.Model:
    """Build the network from what was checked, and give it its weights."""
    from napari_cellclf.inference.keras_engine import load_checked

    if not is_legacy(copy):
        checked = check_network(copy)
        check_values(copy)
        return load_checked(checked.config, lambda network: network.load_weights(copy), name)
    legacy = check_legacy(copy)
    arrays = read_legacy(copy, legacy)

    def fill(network: keras.Model) -> None:
        for layer, weights in arrays.items():
            network.get_layer(layer).set_weights(weights)

    return load_checked(legacy.network.config, fill, name)


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
