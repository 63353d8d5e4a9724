"""A copy of a bundle's network as ``model.onnx``, for engines other than Keras."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.bundle import GRAPH, LIMITS
from napari_cellclf.bundles.onnx_file import check_onnx
from napari_cellclf.bundles.schema import RoundingSpec
from napari_cellclf.errors import EngineError, ExportError, ImageTooLargeError, ModelError
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.onnx_engines import Graph, load_graph_engine
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.export.runtimes import (
    TOLERANCE,
    largest_difference,
    run_onnx,
    run_openvino,
)

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

_RUNTIMES = {"openvino": run_openvino, "onnxruntime": run_onnx}
_BYTES_A_WEIGHT = 4

_log = logging.getLogger(__name__)


def write_graph(
    network: keras.Model,
    folder: Path,
    name: str,
    pixels: NDArray[np.float32],
    expected: NDArray[Any],
) -> Path | None:
    """Write a network as ``model.onnx``, if an engine then predicts the same as Keras.

    `network`: ``(N, Y, X, C)`` in, ``(N, K)`` probabilities out. `pixels`: ndarray, shape (N, Y, X,
    C), float32; prepared images. `expected`: ndarray, shape (N, K); Keras's predictions of them.
    """
    file = folder / GRAPH
    try:
        _write(network, file)
        content = file.read_bytes()
        check_onnx(content, GRAPH, inputs=(None, *pixels.shape[1:]), n_classes=expected.shape[1])
        _compare(file, pixels, expected)
    # An engine's own errors are RuntimeErrors; none of them may cost a network that was trained.
    except (ModelError, RuntimeError, MemoryError) as error:
        _log.info("%s has no %s, so only Keras can run it: %s", name, GRAPH, error)
        return None
    return file


def measure_rounding(
    network: keras.Model, graph: Path, images: Sequence[NDArray[np.float32]]
) -> RoundingSpec | None:
    """Measure how rounding to 16 bits between the layers changes the predictions.

    `network`: ``(N, Y, X, C)`` in, ``(N, K)`` probabilities out, in float32. `images`: sequence of
    ndarray, shape (Y, X, C), float32; prepared images of the kind that the model is for.
    """
    if not len(images) or not find_spec("openvino"):
        return None
    content = graph.read_bytes()
    known = Graph(network.name, hashlib.sha256(content).hexdigest(), lambda: content)
    exact = KerasEngine(network)
    try:
        rounded = load_graph_engine("openvino", known, "fast")
        if rounded.precision != "bfloat16":
            return None
        away = [np.abs(rounded(one[np.newaxis]) - exact(one[np.newaxis])).max() for one in images]
    except (EngineError, ImageTooLargeError) as error:
        _log.info("rounding was not measured: %s", error)
        return None
    # NaN is as far away as can be.
    return RoundingSpec(n=len(images), largest=float(np.nan_to_num(away, nan=1.0).max()))


def _write(network: keras.Model, file: Path) -> None:
    needed = _BYTES_A_WEIGHT * int(network.count_params())
    if needed > LIMITS[GRAPH]:
        raise ExportError(
            f"its weights take {needed / 1e6:.0f} MB, which would double a large bundle (limit "
            f"{LIMITS[GRAPH] / 1e6:.0f} MB)"
        )
    file.write_bytes(to_onnx(network))


def _compare(file: Path, pixels: NDArray[np.float32], expected: NDArray[Any]) -> None:
    compute = next((run for name, run in _RUNTIMES.items() if find_spec(name)), None)
    if compute is None:
        raise ExportError(
            f"no engine is installed to test it: {' and '.join(_RUNTIMES)} are missing"
        )
    difference = largest_difference(compute(file, pixels), expected)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"its predictions are {difference:.2g} away from Keras's (limit {TOLERANCE:g})"
        )
