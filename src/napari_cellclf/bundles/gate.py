"""Look at a `.keras` file before Keras does, and refuse what could do more than compute.

Keras's own `safe_mode` lists what is forbidden; here stands what is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellclf.bundles.archive import Archive, open_archive
from napari_cellclf.bundles.graph import Network, follow
from napari_cellclf.bundles.hdf5 import Weights, check_weights
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.kinds import HDF5_MAGIC, IMPORT, refuse_other_kinds
from napari_cellclf.bundles.plainfile import Span, open_plain, read_up_to
from napari_cellclf.bundles.values import check_finite, crc_of
from napari_cellclf.errors import UnsafeModelError

WEIGHTS = "model.weights.h5"

#: A file of over 2 GB would need the other form of zip, and no classifier is that large.
_LIMITS = {"metadata.json": 1 << 14, "config.json": 1 << 22, WEIGHTS: (1 << 31) - (1 << 23)}
#: The numbers of a file of weights up to this size, in bytes, are read through at once.
AT_ONCE = 1 << 25

#: What training leaves beside the weights; networks are loaded without it.
_OPTIMIZER = "optimizer/"


@dataclass(frozen=True)
class CheckedNetwork:
    """What the gate found in a file it lets pass."""

    #: What its configuration asks for.
    network: Network
    #: How many numbers its weights file holds for it: as many as it asks for.
    n_weights: int
    #: Which Keras wrote it.
    keras_version: str
    #: Whether the numbers themselves have been read. Of a large file they have not; see
    #: `check_values`.
    values_checked: bool

    @property
    def config(self) -> dict[str, Any]:
        """The network's configuration, with nothing besides what was checked."""
        return self.network.config


def check_network(path: Path, size: tuple[int, int] | None = None) -> CheckedNetwork:
    """Check a `.keras` file statically: a fifth of a second and a few megabytes for any file."""
    with _opened(path) as archive:
        documents = [
            parse_json(archive.read(member), f"{member} of {path.name}")
            for member in ("metadata.json", "config.json")
        ]
        metadata = documents[0] if isinstance(documents[0], dict) else {}
        network = follow(documents[1], path.name, size)
        span = _weights_span(archive, path.name)
        weights = check_weights(span)
        held = _check_count(network, weights, path.name)
        at_once = span.size <= AT_ONCE
        if at_once:
            _check_values(archive, span, weights)
    version = str(metadata.get("keras_version", ""))[:40]
    return CheckedNetwork(network, held, version, values_checked=at_once)


def check_values(path: Path) -> None:
    """Read all weights of a `.keras` file through: the step after `check_network` for large ones.

    Takes about a second for a gigabyte, and a few megabytes of memory.
    """
    with _opened(path) as archive:
        span = _weights_span(archive, path.name)
        _check_values(archive, span, check_weights(span))


def check_weights_file(path: Path) -> None:
    """Check an HDF5 file of weights alone, its numbers too."""
    with open_plain(path) as handle:
        span = Span.whole(handle, path.name)
        check_finite(span, check_weights(span))


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    refuse_other_kinds(path)
    if path.is_dir() or path.suffix.lower() != ".keras":
        raise UnsafeModelError(f"{path.name} is not a .keras file; save it as .keras with Keras 3")
    with open_plain(path) as handle:
        if read_up_to(handle, len(HDF5_MAGIC), path.name) == HDF5_MAGIC:
            raise UnsafeModelError(
                f"{path.name} is an HDF5 file of an older Keras; bring it in with {IMPORT}"
            )
        yield open_archive(handle, path.name, _LIMITS)


def _weights_span(archive: Archive, name: str) -> Span:
    found = archive.span(WEIGHTS)
    return Span(found.handle, name, found.start, found.size)


def _check_count(network: Network, weights: Weights, name: str) -> int:
    wanted = network.n_parameters
    arrays = [one for path, one in weights.arrays.items() if not path.startswith(_OPTIMIZER)]
    held = sum(array.size for array in arrays)
    if not wanted <= held <= wanted + 2 * network.n_seeds:
        raise UnsafeModelError(
            f"the network of {name} asks for {wanted} weights, but its file holds {held}; get it "
            "again or save it again with Keras"
        )
    # Keras would say the same of each layer, but takes seconds to be asked.
    asked = Counter(shape for _, shapes in network.weights for shape in shapes)
    lacking = sorted(asked - Counter(array.shape for array in arrays))
    if lacking:
        raise UnsafeModelError(
            f"the network of {name} asks for weights of shape {lacking[0]}, but its file holds "
            "others; get it again or save it again with Keras"
        )
    return held


def _check_values(archive: Archive, span: Span, weights: Weights) -> None:
    archive.check_crc(WEIGHTS, crc_of(span))
    check_finite(span, weights)
