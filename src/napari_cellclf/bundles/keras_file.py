"""Look at a `.keras` file before Keras does, and refuse what could do more than compute.

Keras's own `safe_mode` lists what is forbidden; here stands what is allowed. Such a file is looked
at once, when a model is made of it: bundles hold neither HDF5 nor anything that Keras would have to
open.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_cellclf.bundles.archive import Archive, open_archive
from napari_cellclf.bundles.hdf5 import Contents, look_into
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.keras2 import translate
from napari_cellclf.bundles.networks import Parts, read_network
from napari_cellclf.bundles.paths import HDF5_MAGIC, refuse_other_kinds, start_of
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.errors import BundleError, UnsafeModelError

Kind = Literal["Keras 3", "Keras 2"]

_WEIGHTS = "model.weights.h5"
#: A file of over 2 GB would need the other form of zip, and no classifier is that large.
_LIMITS = {"metadata.json": 1 << 14, "config.json": 1 << 22, _WEIGHTS: (1 << 31) - (1 << 23)}


@dataclass(frozen=True)
class KerasFile:
    """What is in a file that may be given to Keras."""

    #: A zip as Keras 3 writes it, or an HDF5 file that Keras 2 wrote into a `.keras`.
    kind: Kind
    #: Which Keras wrote it, as far as it says.
    keras_version: str
    #: The network, with nothing besides what was checked.
    parts: Parts
    #: How many numbers its weights file holds.
    n_weights: int


def read_keras_file(path: Path) -> KerasFile:
    """Look at a `.keras` file. Its HDF5 part is opened in a process of its own."""
    refuse_other_kinds(path)
    if path.is_dir() or path.suffix.lower() != ".keras":
        raise UnsafeModelError(f"{path.name} is not a .keras file; save it as .keras with Keras 3")
    if start_of(path) == HDF5_MAGIC:
        return _read_keras_2(path)
    with open_plain(path) as handle:
        archive = open_archive(handle, path.name, _LIMITS)
        metadata, config = (
            parse_json(archive.read(member), f"{member} of {path.name}")
            for member in ("metadata.json", "config.json")
        )
        version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
        parts = read_network(config, path.name)
        weights = _weights_of(archive, path)
    return KerasFile("Keras 3", str(version)[:40], parts, weights.n_numbers)


def check_weights(path: Path) -> None:
    """Check the weights in a `.weights.h5` or `.keras` file, and nothing else of it."""
    if path.suffix == ".keras" and start_of(path) != HDF5_MAGIC:
        with open_plain(path) as handle:
            _weights_of(open_archive(handle, path.name, _LIMITS), path)
        return
    _look_into(path)


def _read_keras_2(path: Path) -> KerasFile:
    found = _look_into(path)
    if found.config is None:
        raise BundleError(
            f"{path.name} holds weights without a network; save the whole model with Keras"
        )
    config = parse_json(
        found.config.encode("utf-8", "surrogatepass"), f"model_config of {path.name}"
    )
    parts = read_network(translate(config, path.name), path.name)
    return KerasFile("Keras 2", found.keras_version or "2", parts, found.n_numbers)


def _look_into(path: Path) -> Contents:
    with open_plain(path) as handle:
        return look_into(Span.whole(handle, path.name), path)


def _weights_of(archive: Archive, path: Path) -> Contents:
    archive.check_whole(_WEIGHTS)
    found = archive.span(_WEIGHTS)
    return look_into(Span(found.handle, path.name, found.start, found.size), path)
