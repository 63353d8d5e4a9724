"""A bundle as a package of the BioImage Model Zoo (https://bioimage.io), tested as the zoo does."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_cellclf.bundles.arrays import dump_array
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.core.normalization import full_scale
from napari_cellclf.errors import ExportError, NormalizationError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.models.export.card_text import (
    citations,
    cover,
    documentation,
    package_name,
    spdx_licence,
    written_authors,
)
from napari_cellclf.models.export.formats import ExportSource, metadata
from napari_cellclf.models.export.onnx.convert import OPSET, ClassifierSteps, to_onnx
from napari_cellclf.models.export.runtimes import (
    TOLERANCE,
    export_library,
    largest_difference,
    run_onnx,
)

_FORMAT = "0.5.12"
_LONGEST_DESCRIPTION = 1024


def write_package(source: ExportSource, path: Path) -> None:
    """Write a bioimage.io package and test it as the model zoo does."""
    spec = source.bundle.spec
    licence = spdx_licence(spec.licence, source.licence)
    authors = written_authors(source.authors)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        root = Path(folder)
        content = _content(source, root) | {"license": licence, "authors": authors}
        _pack(content, root, path)
    _test(path, spec.name)


def _content(source: ExportSource, root: Path) -> dict[str, Any]:
    """Write the files of the package and return its description."""
    spec, image = source.bundle.spec, source.bundle.test_image
    preprocessing = spec.input.preprocessing.without_cutting
    raw = preprocessing.unnormalized(image)
    full = full_scale(raw, image.dtype)
    normalization, count = preprocessing.normalization, len(preprocessing.channels)
    try:
        preprocessing_steps = normalization.bioimageio_steps(full, count)
    except NormalizationError as error:
        raise ExportError(f"{spec.name}: {error}") from error
    neutral = normalization.neutral(full, count)
    for index, position in enumerate(preprocessing.match(image).sources):
        if position is None:
            raw[..., index] = neutral[index]
    classifier = Classifier(source.bundle, KerasEngine(source.network))
    answer = classifier.compute(preprocessing(image)[np.newaxis])
    steps = _classifier_steps(spec, raw)
    model = to_onnx(source.network, steps=steps, metadata=metadata(spec))
    files = {
        "weights.onnx": model,
        "test_input.npy": dump_array(raw[np.newaxis]),
        "test_output.npy": dump_array(answer),
        "cover.png": cover(raw),
        "documentation.md": documentation(spec, neutral, full).encode(),
        "bundle.json": spec.model_dump_json(indent=1).encode(),
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    _compare(source, steps, answer)
    return _described(spec) | {
        "inputs": [_input(spec, source.network, preprocessing_steps)],
        "outputs": [_output(spec)],
        "weights": {
            "onnx": {
                "source": "weights.onnx",
                "opset_version": OPSET,
                "comment": "converted from the Keras network by napari-cellclf",
            }
        },
    }


def _classifier_steps(spec: BundleSpec, raw: np.ndarray[Any, Any]) -> ClassifierSteps:
    views, size = spec.input.views, spec.input.preprocessing.size
    square = raw.shape[0] == raw.shape[1]
    if views == "all" and not square:
        # As the classifier does for images that are not square.
        if size is None:
            raise ExportError(
                f"{spec.name} averages eight views of square images and four of others, which a "
                "bioimage.io package cannot describe, and its test image is not square; save the "
                "model with a square test image, or with views='flips'"
            )
        views = "flips"
    return ClassifierSteps(
        spec.input.preprocessing.normalization.write_onnx,
        views,
        spec.temperature,
        spec.class_offsets,
    )


def _compare(source: ExportSource, steps: ClassifierSteps, answer: np.ndarray[Any, Any]) -> None:
    """Compare the graph with the classifier, whose normalisation feeds both.

    The normalisation as the package writes it is compared by the package's own test.
    """
    spec = source.bundle.spec
    pixels = spec.input.preprocessing.without_cutting(source.bundle.test_image)
    model = to_onnx(source.network, steps=replace(steps, normalize=None))
    found = run_onnx(model, np.ascontiguousarray(pixels[np.newaxis]))
    difference = largest_difference(found, answer)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{spec.name}, exported and computed by ONNX Runtime, predicts its test image "
            f"{difference:.2g} away from the classifier (limit {TOLERANCE:g}); train it in float32"
        )


def _described(spec: BundleSpec) -> dict[str, Any]:
    description = spec.description or spec.title or spec.name
    preprocessing = spec.input.preprocessing
    return {
        "type": "model",
        "format_version": _FORMAT,
        "name": package_name(spec.title or spec.name),
        "description": description[:_LONGEST_DESCRIPTION],
        "documentation": {"source": "documentation.md"},
        "covers": [{"source": "cover.png"}],
        "attachments": [{"source": "bundle.json"}],
        "cite": citations(spec.citation),
        "tags": ["2d", "classification", "image-classification", "keras", "napari-cellclf"],
        "config": {
            "bioimageio": {
                "task": "classification",
                "architecture_type": spec.architecture.name[:32],
                "model_parameter_count": spec.architecture.n_parameters,
                "reproducibility_tolerance": [
                    {"absolute_tolerance": TOLERANCE, "relative_tolerance": TOLERANCE}
                ],
            },
            "cellclf": {
                "spec_sha256": spec.spec_sha256,
                "size": preprocessing.size,
                "preprocessing": json.loads(preprocessing.model_dump_json()),
                "views_in_graph": spec.input.views,
                "temperature_in_graph": spec.temperature,
                "class_offsets_in_graph": list(spec.class_offsets),
                "unsure_threshold": spec.unsure_threshold,
            },
        },
    }


def _input(spec: BundleSpec, network: Any, steps: list[dict[str, Any]]) -> dict[str, Any]:
    own = tuple(network.inputs[0].shape[1:3])
    size = spec.input.preprocessing.size or own
    smallest = spec.input.minimum_size or (1, 1)
    sides: list[Any] = [
        {"min": least, "step": 1} if side is None else side
        for side, least in zip(size, smallest, strict=True)
    ]
    if spec.input.views == "all" and size == (None, None):
        sides[1] = {"tensor_id": "image", "axis_id": "y"}
    return {
        "id": "image",
        "description": "pixels in the units of the camera",
        "axes": [
            {"type": "batch"},
            {"type": "space", "id": "y", "size": sides[0]},
            {"type": "space", "id": "x", "size": sides[1]},
            {"type": "channel", "channel_names": list(spec.input.channels)},
        ],
        "data": {"type": "float32"},
        "preprocessing": steps,
        "test_tensor": {"source": "test_input.npy"},
    }


def _output(spec: BundleSpec) -> dict[str, Any]:
    return {
        "id": "probabilities",
        "description": "of the classes",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(spec.class_names)},
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": {"source": "test_output.npy"},
    }


def _pack(content: dict[str, Any], root: Path, path: Path) -> None:
    spec = export_library("bioimageio.spec")
    with _quiet():
        context = spec.ValidationContext(root=root, log_warnings=False, progressbar=False)
        description = spec.build_description(content, context=context)
        if isinstance(description, spec.InvalidDescr):
            raise ExportError(
                f"{content['name']} is not a valid bioimage.io model "
                f"({_reason(description.validation_summary)}); correct that in the bundle"
            )
        spec.save_bioimageio_package(description, output_path=path)


def _test(path: Path, name: str) -> None:
    with _quiet():
        summary = export_library("bioimageio.core").test_model(path, weight_format="onnx")
    if summary.status != "passed":
        raise ExportError(
            f"the bioimage.io package of {name} failed its test ({_reason(summary)}); "
            "export it as onnx instead, and report this error"
        )


def _reason(summary: Any) -> str:
    found = [error for detail in summary.details for error in detail.errors]
    if not found:
        return str(summary.status)
    where = ".".join(map(str, found[0].loc))
    return f"{where}: {' '.join(found[0].msg.split())}"[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log messages of the libraries."""
    logger = export_library("loguru").logger
    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            # bioimageio.spec leaves files to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        logger.enable("bioimageio.core")
