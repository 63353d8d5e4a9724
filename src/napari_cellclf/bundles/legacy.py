"""A network that Keras 2 wrote as HDF5 into a file named `.keras`: checked, and read by us.

Keras's own reader of such files rebuilds whatever class the configuration names. Here the
configuration is translated and goes through the same check as any other, and the weights are read
from the places that were checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from napari_cellclf.bundles.graph import Network, follow
from napari_cellclf.bundles.hdf5 import Array, Weights, check_weights
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.keras2 import translate
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.bundles.values import check_finite, read_array
from napari_cellclf.errors import BundleError

_ROOT = "model_weights"
_MAX_CONFIG = 1 << 22


@dataclass(frozen=True)
class LegacyNetwork:
    """What is in such a file."""

    #: What its translated configuration asks for.
    network: Network
    #: For each layer with weights, where they are, in order and of the shapes asked for.
    arrays: dict[str, list[Array]]
    #: Which Keras wrote it.
    keras_version: str


def check_legacy(path: Path, size: tuple[int, int] | None = None) -> LegacyNetwork:
    """Check such a file statically."""
    with open_plain(path) as handle:
        weights = check_weights(Span.whole(handle, path.name))
    about = weights.attributes.get("", {})
    config = _text(about, "model_config")
    if config is None or len(config) > _MAX_CONFIG:
        raise BundleError(
            f"{path.name} holds weights without a network; save the whole model with Keras"
        )
    parsed = parse_json(config, f"model_config of {path.name}")
    network = follow(translate(parsed, path.name), path.name, size)
    arrays = {
        layer: _arrays_of(layer, shapes, weights, path.name) for layer, shapes in network.weights
    }
    version = (_text(about, "keras_version") or b"2").decode("utf-8", "replace")
    return LegacyNetwork(network, arrays, version[:40])


def read_legacy(path: Path, checked: LegacyNetwork) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Read the weights of such a file."""
    with open_plain(path) as handle:
        span = Span.whole(handle, path.name)
        every = {f"{layer}/{i}": one for layer, found in checked.arrays.items()
                 for i, one in enumerate(found)}  # fmt: skip
        check_finite(span, Weights(every))
        return {
            layer: [read_array(span, array) for array in found]
            for layer, found in checked.arrays.items()
        }


def _arrays_of(
    layer: str, shapes: list[tuple[int, ...]], weights: Weights, name: str
) -> list[Array]:
    group = f"{_ROOT}/{layer}"
    listed = weights.attributes.get(group, {}).get("weight_names", ())
    paths = [f"{group}/{one.decode('utf-8', 'replace')}" for one in listed]
    found = [weights.arrays[path] for path in paths if path in weights.arrays]
    if [array.shape for array in found] != shapes or len(set(paths)) < len(paths):
        _refuse(layer, shapes, found, name)
    return found


def _refuse(layer: str, shapes: list[tuple[int, ...]], found: list[Array], name: str) -> NoReturn:
    held = ", ".join(str(array.shape) for array in found) or "none"
    wanted = ", ".join(map(str, shapes))
    raise BundleError(
        f"layer {layer[:80]!r} of {name} asks for weights of shape {wanted[:200]}, but the file "
        f"holds {held[:200]}; save it again with Keras"
    )


def _text(attributes: dict[str, tuple[bytes, ...]], key: str) -> bytes | None:
    texts = attributes.get(key, ())
    return texts[0] if len(texts) == 1 else None
