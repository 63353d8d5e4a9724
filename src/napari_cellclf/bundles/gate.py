"""Look at a `.keras` file before Keras does, and refuse what could do more than compute.

Keras's own `safe_mode` lists what is forbidden; here stands what is allowed.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from napari_cellclf.bundles.archive import TRUNCATED, copy_member, open_archive, read_member
from napari_cellclf.bundles.hdf5 import check_weights
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.kinds import refuse_other_kinds
from napari_cellclf.bundles.layers import check_config
from napari_cellclf.errors import BundleError, UnsafeModelError

WEIGHTS = "model.weights.h5"

_LIMITS = {"metadata.json": 1 << 16, "config.json": 1 << 24, WEIGHTS: 1 << 32}
#: Weights of at most this many bytes are checked in memory, larger ones in a temporary file.
_IN_MEMORY = 1 << 26


@dataclass(frozen=True)
class CheckedNetwork:
    """What the gate found in a file it lets pass.

    Parameters
    ----------
    config : dict
        The network's configuration, every class of which is allowed.
    n_weights : int
        How many numbers its weights file holds: a bound for what Keras may build from it.
    keras_version : str
        Which Keras wrote it.
    """

    config: dict[str, Any]
    n_weights: int
    keras_version: str


def check_network(path: Path) -> CheckedNetwork:
    """Check a `.keras` file statically.

    Parameters
    ----------
    path : Path
        The file. Hand over a private copy, so that what is loaded is what was checked.

    Returns
    -------
    CheckedNetwork
        What it holds.

    Raises
    ------
    BundleError
        If it is not a complete file of the kind.
    UnsafeModelError
        If it holds anything that is not a plain network with its weights.
    """
    refuse_other_kinds(path)
    if path.is_dir() or path.suffix.lower() != ".keras":
        raise UnsafeModelError(f"{path.name} is not a .keras file; save it as .keras with Keras 3")
    with path.open("rb") as handle:
        _check_start(handle, path.name)
        with open_archive(handle, path.name, _LIMITS) as archive:
            return _check_members(archive, path.name)


def _check_members(archive: zipfile.ZipFile, name: str) -> CheckedNetwork:
    metadata = parse_json(read_member(archive, "metadata.json", name), f"metadata.json of {name}")
    config = parse_json(read_member(archive, "config.json", name), f"config.json of {name}")
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise UnsafeModelError(f"{name} does not describe a network")
    check_config(config, name)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as weights:
        # A copy, since going back inside a member reads it again from its start.
        copy_member(archive, WEIGHTS, name, weights)
        n_weights = check_weights(weights, name, weights.tell())
    return CheckedNetwork(config, n_weights, str(metadata.get("keras_version", "")))


def _check_start(handle: IO[bytes], name: str) -> None:
    start = handle.read(4)
    handle.seek(0)
    if start != b"PK\x03\x04":
        raise BundleError(f"{name} {TRUNCATED}")
