"""The formats that hold a network and little more: ONNX, OpenVINO, SavedModel, `.keras`."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import keras

from napari_cellclf.errors import ExportError
from napari_cellclf.inference.engine_library import openvino_core
from napari_cellclf.models.export.extras import export_library
from napari_cellclf.models.export.material import Material, metadata
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.export.runtimes import (
    run_keras,
    run_onnx,
    run_openvino,
    run_saved_model,
)


def write_onnx(material: Material, path: Path) -> None:
    """Write an ONNX file and compare it in ONNX Runtime."""
    path.write_bytes(to_onnx(material.network, metadata=metadata(material.bundle.spec)))
    material.check("ONNX Runtime", partial(run_onnx, path))


def write_openvino(material: Material, path: Path) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin`` in float32 and compare them in OpenVINO."""
    openvino = export_library("openvino")
    # Not `convert_model`, which reports its use to OpenVINO's makers.
    model = openvino_core().read_model(io.BytesIO(to_onnx(material.network)))
    for key, text in metadata(material.bundle.spec).items():
        model.set_rt_info(text, key.split("."))
    openvino.save_model(model, path, compress_to_fp16=False)
    material.check("OpenVINO", partial(run_openvino, path))


def write_saved_model(material: Material, path: Path) -> None:
    """Write a SavedModel folder and compare it in TensorFlow."""
    if keras.config.backend() != "tensorflow":
        raise ExportError(
            f"a SavedModel is written by TensorFlow, but Keras computes with "
            f"{keras.config.backend()} here; set KERAS_BACKEND=tensorflow, or export it as onnx"
        )
    port = material.network.inputs[0]
    signature = keras.InputSpec(shape=port.shape, dtype="float32", name=port.name)
    material.network.export(path, "tf_saved_model", verbose=False, input_signature=[signature])
    material.check("TensorFlow", partial(run_saved_model, path))


def write_keras(material: Material, path: Path) -> None:
    """Let Keras write the network, and compare what it wrote in Keras."""
    material.network.save(path)
    material.check("Keras", partial(run_keras, path))
