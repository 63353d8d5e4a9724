"""Ways to compute a frozen backbone: by the fastest engine that agrees with Keras, or by Keras."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np

from napari_cellclf.errors import EngineError
from napari_cellclf.inference.engine import (
    EngineName,
    EnginePrecision,
    Machine,
    choose_engine,
    engine_version,
)
from napari_cellclf.inference.onnx_engines import Graph, load_graph_engine
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.training.surgery import in_float32
from napari_cellclf.models.training.validation import compute_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest length of a difference to Keras's features, as a part of their own length. In bfloat16
#: EfficientNet-Lite0 is 0.09 to 0.42 away on real images, and heads that learnt from that lose up
#: to half of their correct answers once the network is used in float32.
TOLERANCE = 1e-3
ROUNDED_TOLERANCE = 2e-2

#: Prepared images to features.
Compute: TypeAlias = "Callable[[NDArray[np.float32]], NDArray[np.float32]]"


@dataclass(frozen=True)
class Way:
    """How features are computed."""

    #: By what.
    engine: EngineName
    #: Keras computes as the backbone was built.
    precision: EnginePrecision = "float32"

    @property
    def identity(self) -> str:
        """What its features depend on, besides the backbone and the images."""
        if self.engine == "keras":
            return f"{engine_version('keras')} {keras.config.backend()}"
        return f"{engine_version(self.engine)} {self.precision}"


def ways_to_compute(machine: Machine, *, exact: bool) -> list[Way]:
    """List the ways to compute a backbone, the fastest first and Keras last.

    Examples
    --------
    >>> [way.engine for way in ways_to_compute(Machine(frozenset({"keras"})), exact=True)]
    ['keras']
    """
    engine = choose_engine("auto", True, machine)
    if engine == "keras":
        return [Way("keras")]
    rounded = [] if exact else [Way(engine, "fast")]
    return [*rounded, Way(engine), Way("keras")]


def fingerprint(backbone: keras.Model) -> str:
    """Name a backbone after its graph and its weights."""
    names = {name: str(number) for number, name in enumerate(_names(backbone))}
    graph = json.dumps(_anonymous(backbone.get_config(), names), sort_keys=True, default=str)
    digest = hashlib.sha256(graph.encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


class Backbone:
    """A backbone that can be computed in several ways.

    `network`: ``(N, Y, X, C)`` to features ``(N, F)``.
    """

    def __init__(self, network: keras.Model) -> None:
        self._network = network
        self._graph: Graph | None = None
        self._expected: NDArray[np.float32] | None = None

    def load(self, way: Way, images: NDArray[np.float32]) -> tuple[Compute, str]:
        """Make what computes it in one way, and compare it with Keras.

        `images`: ndarray, shape (N, Y, X, C), float32; some prepared ones to compare by, the same
        in each call.
        """
        if way.engine == "keras":
            network = self._network
            return lambda batch: compute_batch(network, batch), way.identity
        engine = load_graph_engine(way.engine, self._as_graph(), way.precision)
        limit = TOLERANCE if engine.precision == "float32" else ROUNDED_TOLERANCE
        found = _distance(engine(images), self._expect(images))
        if not found <= limit:
            raise EngineError(
                f"features by {engine.device} are {found:.2g} of their length away from Keras's "
                f"(limit {limit:g})"
            )
        return engine, engine.device

    def _as_graph(self) -> Graph:
        if self._graph is None:
            content = to_onnx(in_float32(self._network))
            digest = hashlib.sha256(content).hexdigest()
            self._graph = Graph(self._network.name, digest, lambda: content)
        return self._graph

    def _expect(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._expected is None:
            # Without compiling it: for a few images that would take longer than they do.
            answer = in_float32(self._network)(images, training=False)
            self._expected = np.asarray(keras.ops.convert_to_numpy(answer), np.float32)
        return self._expected


def _distance(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest length of a difference as a part of the expected length."""
    lengths = np.maximum(np.linalg.norm(expected, axis=1), np.finfo(np.float32).tiny)
    return float((np.linalg.norm(found - expected, axis=1) / lengths).max())


def _names(network: keras.Model) -> list[str]:
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    listed = [network.name, *(operation.name for operation in network.operations)]
    return listed + [name for layer in inner for name in _names(layer)]


def _anonymous(config: Any, names: dict[str, str]) -> Any:
    if isinstance(config, dict):
        return {
            key: _anonymous(value, names) for key, value in config.items() if key != "trainable"
        }
    if isinstance(config, list | tuple):
        return [_anonymous(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config
