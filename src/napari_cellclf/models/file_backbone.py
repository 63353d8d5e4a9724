"""A backbone that is an ONNX file, computed and saved with a head; loads no Keras."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from napari_cellclf.bundles.arrays import dump_array, dump_weights
from napari_cellclf.bundles.backbone_files import read_backbone
from napari_cellclf.bundles.backbone_graph import head_weights, put_together
from napari_cellclf.bundles.bundle import (
    SEEN_IMAGES,
    TEST_INPUT,
    TEST_OUTPUT,
    UNLIKE,
    WEIGHTS,
    ModelBundle,
)
from napari_cellclf.bundles.onnx_file import check_onnx
from napari_cellclf.bundles.schema import (
    HEAD_ON_BACKBONE,
    ArchitectureSpec,
    BackboneSpec,
    BundleSpec,
    InputSpec,
    TestImageSpec,
    TrainingSpec,
    unlike_spec_of,
)
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import BundleError, EngineError
from napari_cellclf.inference.engine import ENGINES, look_at_machine
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.onnx_engines import Graph, GraphEngineName, load_graph_engine
from napari_cellclf.models.sample_image import make_test_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.seen_images import SeenImages
    from napari_cellclf.core.unlikeness import Unlikeness
    from napari_cellclf.inference.onnx_engines import OnnxRuntimeEngine, OpenVinoEngine


def load_engine(
    spec: BackboneSpec,
    preprocessing: Preprocessing,
    head: Mapping[str, NDArray[Any]] | None = None,
) -> OpenVinoEngine | OnnxRuntimeEngine:
    """Load what computes features, or with a head probabilities, in float32."""
    channels = len(preprocessing.channels)
    content = put_together(
        read_backbone(spec),
        spec,
        channels,
        photographs=preprocessing.normalization == spec.photographs,
        head=head,
    )
    n_made = spec.runs(channels) * spec.n_features if head is None else None
    check_onnx(content, spec.name, inputs=(None, *spec.size, channels), n_classes=n_made)
    graph = Graph(spec.name, hashlib.sha256(content).hexdigest(), lambda: content)
    return load_graph_engine(_engine_name(spec), graph, "float32")


def _engine_name(spec: BackboneSpec) -> GraphEngineName:
    here = look_at_machine().engines
    for name in ENGINES:
        if name != "keras" and name in here:
            return name
    raise EngineError(
        f"the backbone {spec.name} is computed by OpenVINO or ONNX Runtime, and neither is "
        "installed; install one: pip install onnxruntime"
    )


def save_on_backbone(
    place: str | Path,
    spec: BackboneSpec,
    preprocessing: Preprocessing,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    seen_images: SeenImages,
    unlikeness: Unlikeness | None = None,
    training: TrainingSpec | None = None,
    **described: Any,
) -> ModelBundle:
    """Write a bundle that names its backbone and holds the head on it, loaded again and tested.

    `kernel`, `bias`: of the head, shapes (F, K) and (K,). `described`: other fields of
    `BundleSpec`, such as ``classes``.
    """
    head = head_weights(kernel, bias)
    image = make_test_image(preprocessing)
    fed = preprocessing.without_cutting(image)[np.newaxis]
    engine = load_engine(spec, preprocessing, head)
    versions = {"napari-cellclf": version("napari-cellclf"), "engine": engine.device}
    training = training or TrainingSpec()
    fields: dict[str, Any] = {
        "input": InputSpec(preprocessing=preprocessing),
        "architecture": ArchitectureSpec(
            name=HEAD_ON_BACKBONE,
            n_parameters=kernel.size + bias.size,
            pretrained=f"{spec.name}, SHA-256 {spec.sha256}",
        ),
        "backbone": spec,
        "training": training.model_copy(update={"versions": versions | training.versions}),
        "test_image": TestImageSpec(axes=image.axes, channels=tuple(image.channels)),
        "unlike": None if unlikeness is None else unlike_spec_of(unlikeness),
    }
    try:
        bundle_spec = BundleSpec(**(fields | described))
    except ValidationError as error:
        raise BundleError(f"the bundle cannot be described: {reason_of(error)}") from error
    files = {
        WEIGHTS: dump_weights(head),
        TEST_INPUT: dump_array(np.asarray(image.data)),
        TEST_OUTPUT: dump_array(engine(fed)),
        SEEN_IMAGES: dump_array(seen_images.to_array()),
    }
    if unlikeness is not None:
        files[UNLIKE] = dump_weights(unlikeness.to_arrays())
    return write_bundle(place, bundle_spec, files, verify=_verify)


def _verify(path: Path) -> None:
    load_classifier(path, precision="float32", own_process=False)
