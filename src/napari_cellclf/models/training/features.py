"""The features that a frozen backbone computes from each image, computed once and kept on disk.

They are computed by the fastest engine that agrees with Keras, or by Keras.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, EngineError, ExportError
from napari_cellclf.inference.engine import (
    EngineName,
    EnginePrecision,
    Machine,
    choose_engine,
    engine_version,
    look_at_machine,
)
from napari_cellclf.inference.onnx_engines import Graph, load_graph_engine
from napari_cellclf.inference.prepare import in_order
from napari_cellclf.io.array_cache import ArrayCache, KeptArrays, damaged_in_words
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.training.network import in_float32
from napari_cellclf.models.training.validation import compute_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.training.minibatches import Arrays

#: The least recently used features are deleted when all together would take more bytes.
MOST_BYTES = 10 * 2**30
#: Images by which an engine is compared with Keras.
_COMPARED = 8
#: Batches that are read ahead.
_AHEAD = 2
#: Largest length of a difference to Keras's features, as a part of their own length. In bfloat16
#: EfficientNet-Lite0 is 0.09 to 0.42 away on real images, and heads trained on that lose up to
#: half of their correct predictions once the network is used in float32.
TOLERANCE = 1e-3
ROUNDED_TOLERANCE = 2e-2
#: Prepared images to features.
Compute: TypeAlias = "Callable[[NDArray[np.float32]], NDArray[np.float32]]"


def cached_features(
    backbone: keras.Model,
    arrays: Arrays,
    keys: Sequence[str],
    *,
    folder: Path,
    exact: bool = False,
    batch_size: int = 32,
    note: Callable[[str], None] = lambda message: None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> NDArray[np.float32]:
    """Compute the features of images, except those that are in the cache.

    All features returned were computed by the same engine: the fastest that agrees with Keras on
    some of the images.

    `backbone`: images to features ``(N, F)``. Returns in order.
    """
    name = fingerprint(backbone)
    ways = ways_to_compute(look_at_machine(), exact=exact)
    caches = [ArrayCache(folder, _group(name, way), MOST_BYTES) for way in ways]
    for cache in caches:
        found = cache.find(keys)
        if not found.missing:
            on_progress(Progress(len(arrays), len(arrays), "loaded the features computed before"))
            return _stacked(found)
    work = FeatureNetwork(backbone)
    for way, cache in zip(ways, caches, strict=True):
        found = cache.find(keys)
        if should_stop():
            raise CancelledError("stopped before the features of the backbone")
        if not found.missing:
            # Another process has just computed them, while one more way was tried here.
            return _stacked(found)
        try:
            compute, device = work.load(way, _some(arrays, found.missing))
        except (EngineError, ExportError) as error:
            note(f"{error}; falling back to another engine")
            continue
        note(f"the features of the backbone are computed by {device}")
        if found.damaged:
            note(damaged_in_words(found.damaged))
        _compute_missing(compute, arrays, found, cache, batch_size, on_progress, should_stop)
        break
    return _stacked(cache.find_all(keys))


def pixel_keys(arrays: Arrays) -> tuple[str, ...]:
    """Identify images in memory by their pixels."""
    return tuple(_pixel_key(arrays[number]) for number in range(len(arrays)))


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


class FeatureNetwork:
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
                f"features by {engine.device} differ from Keras's by {found:.2%}, more than "
                f"{limit:.2%}"
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


def fingerprint(backbone: keras.Model) -> str:
    """Identify a backbone by its graph and its weights."""
    names = {name: str(number) for number, name in enumerate(_names(backbone))}
    graph = json.dumps(_anonymous(backbone.get_config(), names), sort_keys=True, default=str)
    digest = hashlib.sha256(graph.encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def _group(backbone: str, way: Way) -> str:
    return hashlib.sha256(f"{backbone} {way.identity}".encode()).hexdigest()[:32]


def _pixel_key(array: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _compute_missing(
    compute: Compute,
    arrays: Arrays,
    found: KeptArrays,
    cache: ArrayCache,
    batch_size: int,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> None:
    missing = found.missing
    done = len(arrays) - len(missing)
    with cache.adding(found) as adder:
        for numbers, batch in _batches(arrays, missing, batch_size):
            if should_stop():
                raise CancelledError(f"stopped after the features of {counted(done, 'image')}")
            for number, row in zip(numbers, compute(batch), strict=False):
                adder.add(found.keys[number], row)
            done += len(numbers)
            on_progress(Progress(done, len(arrays), "computing features of the backbone"))


def _batches(
    arrays: Arrays, numbers: list[int], batch_size: int
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Read full batches ahead of what computes them.

    The last batch is padded, and images of several sizes are computed one by one: the features of
    an image must not depend on how many others were computed with it.
    """
    same = len({arrays[number].shape for number in numbers}) == 1
    size = batch_size if same else 1
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    with ThreadPoolExecutor(1, "cellclf-features") as thread:
        tasks = (partial(_full, arrays, part, size) for part in parts)
        yield from zip(parts, in_order(thread, tasks, _AHEAD), strict=True)


def _full(arrays: Arrays, numbers: list[int], size: int) -> NDArray[np.float32]:
    rows = [arrays[number] for number in numbers]
    return np.stack(rows + rows[-1:] * (size - len(rows)))


def _some(arrays: Arrays, numbers: list[int]) -> NDArray[np.float32]:
    """Take a few images of one size from all over those that are to be computed."""
    chosen = [arrays[number] for number in numbers[:: max(1, len(numbers) // _COMPARED)]]
    return np.stack([one for one in chosen if one.shape == chosen[0].shape][:_COMPARED])


def _stacked(found: KeptArrays) -> NDArray[np.float32]:
    return np.stack([found[number] for number in range(len(found))])


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
