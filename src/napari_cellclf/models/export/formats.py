"""The formats that hold a network and little more: ONNX, OpenVINO, SavedModel, `.keras`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.errors import ExportError
from napari_cellclf.inference.engine_library import openvino_core
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.export.runtimes import (
    TOLERANCE,
    export_library,
    largest_difference,
    run_keras,
    run_onnx,
    run_openvino,
    run_saved_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.schema import BundleSpec

    #: Prepared images ``(N, Y, X, C)`` to probabilities ``(N, K)``.
    Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class ExportSource:
    """A bundle to export, its network, and what some formats need besides."""

    bundle: ModelBundle
    network: Any
    #: SPDX identifier, where the bundle's own licence is not one.
    licence: str | None = None
    #: Each ``"Name, Affiliation"`` or a name.
    authors: tuple[str, ...] = ()

    def check(self, runtime: str, compute: Compute) -> None:
        """Compare another runtime's prediction of the test image with the stored one."""
        pixels = self.bundle.spec.input.preprocessing.without_cutting(self.bundle.test_image)
        difference = largest_difference(compute(pixels[np.newaxis]), self.bundle.test_output)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{self.bundle.spec.name}, exported and computed by {runtime}, differs from the "
                f"stored prediction of its test image by {difference:.2g} (limit {TOLERANCE:g}); "
                "train it in float32, or export it to another format"
            )


def write_onnx(source: ExportSource, path: Path) -> None:
    """Write an ONNX file and compare it in ONNX Runtime."""
    path.write_bytes(to_onnx(source.network, metadata=metadata(source.bundle.spec)))
    source.check("ONNX Runtime", partial(run_onnx, path))


def write_openvino(source: ExportSource, path: Path) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin`` in float32 and compare them in OpenVINO."""
    openvino = export_library("openvino")
    # Not `convert_model`, which reports its use to OpenVINO's makers.
    model = openvino_core().read_model(io.BytesIO(to_onnx(source.network)))
    for key, text in metadata(source.bundle.spec).items():
        model.set_rt_info(text, key.split("."))
    with _writing(path, "OpenVINO", RuntimeError):
        openvino.save_model(model, path, compress_to_fp16=False)
    source.check("OpenVINO", partial(run_openvino, path))


def write_saved_model(source: ExportSource, path: Path) -> None:
    """Write a SavedModel folder and compare it in TensorFlow."""
    if keras.config.backend() != "tensorflow":
        raise ExportError(
            f"a SavedModel is written by TensorFlow, but Keras computes with "
            f"{keras.config.backend()} here; set KERAS_BACKEND=tensorflow, or export it as onnx"
        )
    port = source.network.inputs[0]
    signature = keras.InputSpec(shape=port.shape, dtype="float32", name=port.name)
    with _writing(path, "TensorFlow", export_library("tensorflow").errors.OpError):
        source.network.export(path, "tf_saved_model", verbose=False, input_signature=[signature])
    source.check("TensorFlow", partial(run_saved_model, path))


def write_keras(source: ExportSource, path: Path) -> None:
    """Let Keras write the network, and compare what it wrote in Keras."""
    source.network.save(path)
    source.check("Keras", partial(run_keras, path))


@contextmanager
def _writing(path: Path, program: str, kind: type[Exception]) -> Iterator[None]:
    """Say in one sentence that a program could not write: each has an error of its own for it."""
    try:
        yield
    except kind as error:
        # TensorFlow says last what the system said.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rpartition("; ")[2]
        raise ExportError(
            f"{program} cannot write {path.name} ({reason}); free some space, or choose another "
            "folder"
        ) from error


def metadata(spec: BundleSpec) -> dict[str, str]:
    """Describe a model as the metadata of another format: names and texts."""
    return {
        "cellclf.name": spec.name,
        "cellclf.spec_sha256": spec.spec_sha256 or "",
        "cellclf.classes": json.dumps(spec.class_names),
        "cellclf.channels": json.dumps(spec.input.channels),
        "cellclf.preprocessing": spec.input.preprocessing.model_dump_json(),
        "cellclf.views": spec.input.views,
        "cellclf.temperature": json.dumps(spec.temperature),
        "cellclf.class_offsets": json.dumps(spec.class_offsets),
        "cellclf.licence": spec.licence,
    }
