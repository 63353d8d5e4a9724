"""Run an exported network with the program it was exported for, and compare its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.errors import ExportError
from napari_cellclf.inference.engine_library import import_silently, openvino_core

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest difference of a probability that another runtime may make in float32.
TOLERANCE = 1e-4


def export_library(name: str) -> Any:
    """Import a library of the extra `export`, when it is first needed."""
    try:
        return import_silently(name)
    except ImportError as error:
        raise ExportError(
            f"exporting needs {name.partition('.')[0]}, which cannot be imported ({error}); "
            'install it with pip install "napari-cellclf[export]"'
        ) from error


def run_onnx(model: bytes | Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with ONNX Runtime on the processor."""
    source = model if isinstance(model, bytes) else str(model)
    session = export_library("onnxruntime").InferenceSession(
        source, providers=["CPUExecutionProvider"]
    )
    (port,) = session.get_inputs()
    (answer,) = session.run(None, {port.name: images})
    return np.asarray(answer, np.float32)


def run_openvino(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with OpenVINO on the processor."""
    # Processors with bfloat16 use it by default.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    export_library("openvino")
    compiled = openvino_core().compile_model(str(path), "CPU", exact)
    return np.array(compiled(images)[0], np.float32)


def run_saved_model(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with the function of a SavedModel that serves."""
    layer = keras.layers.TFSMLayer(str(path), call_endpoint="serve")
    return _numbers(layer(images))


def run_keras(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with Keras."""
    network = keras.saving.load_model(path, compile=False, safe_mode=True)
    return _numbers(network(images))


def largest_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference of a probability; infinite where the shapes differ."""
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf


def _numbers(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float32)
