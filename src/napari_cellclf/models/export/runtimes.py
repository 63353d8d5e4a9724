"""Compute an exported network with the program it was exported for, to see that it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.inference.engine_library import openvino_core
from napari_cellclf.models.export.extras import export_library

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run_onnx(model: bytes | Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with ONNX Runtime on the processor.

    `model`: bytes or Path; the model, or its file. `images`: ndarray, shape (N, Y, X, C), float32;
    prepared. Returns its answers.
    """
    source = model if isinstance(model, bytes) else str(model)
    session = export_library("onnxruntime").InferenceSession(
        source, providers=["CPUExecutionProvider"]
    )
    (port,) = session.get_inputs()
    (answer,) = session.run(None, {port.name: images})
    return np.asarray(answer, np.float32)


def run_openvino(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with OpenVINO on the processor.

    `images`: ndarray, shape (N, Y, X, C), float32; prepared. Returns its answers.
    """
    # Processors that can compute in bfloat16 would, unless told otherwise.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    export_library("openvino")
    compiled = openvino_core().compile_model(str(path), "CPU", exact)
    return np.array(compiled(images)[0], np.float32)


def run_saved_model(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with the function of a SavedModel that serves.

    `images`: ndarray, shape (N, Y, X, C), float32; prepared. Returns its answers.
    """
    layer = keras.layers.TFSMLayer(str(path), call_endpoint="serve")
    return _numbers(layer(images))


def run_keras(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute with Keras.

    `images`: ndarray, shape (N, Y, X, C), float32; prepared. Returns its answers.
    """
    network = keras.saving.load_model(path, compile=False, safe_mode=True)
    return _numbers(network(images))


def _numbers(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float32)
