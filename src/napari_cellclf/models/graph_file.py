"""The network of a bundle once more as ``model.onnx``, for engines that do without Keras."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.members import GRAPH, LIMITS
from napari_cellclf.bundles.onnx_gate import check_onnx
from napari_cellclf.errors import ExportError, ModelError
from napari_cellclf.models.export.material import TOLERANCE
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.export.runtimes import run_onnx, run_openvino

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
    """Write a network as ``model.onnx``, if an engine then answers as Keras does.

    Parameters
    ----------
    network : keras.Model
        ``(N, Y, X, C)`` in, ``(N, K)`` probabilities out.
    folder : Path
        Where to.
    name : str
        Of the model, for the log.
    pixels : ndarray, shape (N, Y, X, C), float32
        Prepared images.
    expected : ndarray, shape (N, K)
        What Keras answers to them.

    Returns
    -------
    Path or None
        The file. None, with a word in the log, for a network that is too large, cannot be
        written, or answers otherwise there: a bundle is whole without it.
    """
    file = folder / GRAPH
    try:
        _write(network, file)
        check_onnx(file, GRAPH, inputs=(None, *pixels.shape[1:]), n_classes=expected.shape[1])
        _compare(file, pixels, expected)
    # An engine's own errors are RuntimeErrors; none of them may cost a network that was trained.
    except (ModelError, RuntimeError, MemoryError) as error:
        _log.info("%s has no %s, so that only Keras computes it: %s", name, GRAPH, error)
        return None
    return file


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
        raise ExportError(f"there is no engine to try it: {' and '.join(_RUNTIMES)} are missing")
    found = compute(file, pixels)
    same_shape = found.shape == expected.shape
    difference = float(np.abs(found - expected).max()) if same_shape else np.inf
    if not difference <= TOLERANCE:
        raise ExportError(f"its answer is {difference:.2g} away from Keras's (limit {TOLERANCE:g})")
