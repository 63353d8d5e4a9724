"""Save a trained network as a bundle, which is loaded and tested before it is moved into place."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from pydantic import ValidationError

from napari_cellclf.bundles.arrays import dump_array, dump_weights
from napari_cellclf.bundles.bundle import (
    GRAPH,
    LIMITS,
    SEEN_IMAGES,
    TEST_INPUT,
    TEST_OUTPUT,
    UNLIKE,
    WEIGHTS,
    ModelBundle,
)
from napari_cellclf.bundles.networks import read_network
from napari_cellclf.bundles.onnx_file import check_onnx
from napari_cellclf.bundles.schema import (
    EXTRAS,
    ArchitectureSpec,
    BundleSpec,
    InputSpec,
    RoundingSpec,
    TestImageSpec,
    TrainingSpec,
    unlike_spec_of,
)
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.tta import Views
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import (
    ArchitectureError,
    AxesError,
    BundleError,
    EngineError,
    ExportError,
    ImageTooLargeError,
    ModelError,
    UnsafeModelError,
)
from napari_cellclf.inference.engine import ENGINES, Computed
from napari_cellclf.inference.keras_engine import KerasEngine, expose
from napari_cellclf.inference.onnx_engines import Graph, load_graph_engine
from napari_cellclf.inference.rebuild import (
    architecture_builder,
    built,
    layers_builder,
    weight_names,
)
from napari_cellclf.inference.self_test import run_self_test
from napari_cellclf.io.replacing import refusals
from napari_cellclf.models.architectures.registry import architecture_version
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.export.runtimes import TOLERANCE, largest_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Parameters of layers that do nothing when a network predicts, and what Keras notes beside them.
_OF_TRAINING = frozenset(("trainable", "seed", "rate", "build_config", "shared_object_id"))
#: Largest difference of features and of the feature map, as a fraction of their own length.
_EXTRAS_TOLERANCE = 1e-3
_BYTES_PER_WEIGHT = 4
_log = logging.getLogger(__name__)


def save_bundle(
    network: keras.Model,
    path: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str | ClassSpec],
    architecture: str | ArchitectureSpec,
    test_image: Image,
    typical: Sequence[NDArray[np.float32]] = (),
    training: TrainingSpec | None = None,
    seen_images: SeenImages | None = None,
    unlikeness: Unlikeness | None = None,
    views: Views = "one",
    single_channel: str | None = None,
    overwrite: bool = False,
    as_zip: bool = False,
    **described: Any,
) -> ModelBundle:
    """Write a network with everything needed to use it, and test it before it is moved into place.

    It is written for Keras and, where it can be, as ``model.onnx`` for other engines.

    Parameters
    ----------
    network : keras.Model
        ``(N, Y, X, C)`` in, ``(N, K)`` probabilities out. What is saved is its weights, and how it
        is built: by its architecture or, where that builds another network, as a list of layers.
    path : str or Path
        Where to; the name ends in ``.cellclf``.
    preprocessing : Preprocessing
        How its input is made.
    classes : sequence of (str or ClassSpec)
        In the order of the output.
    architecture : str or ArchitectureSpec
        Its name in the registry, with parameters where there are any.
    test_image : Image
        One raw plane, stored with its prediction. It is part of the bundle: take one that may be
        passed on.
    typical : sequence of ndarray, shape (Y, X, C), float32
        Prepared images of the kind that it is for, preferably not those that it was trained on.
        They are not stored; they show whether the network can be computed in 16 bits.
    training : TrainingSpec, optional
        What it was trained on; the versions of the software are filled in.
    seen_images : SeenImages, optional
        The images of its training run, so that evaluating it on them is noticed.
    unlikeness : Unlikeness, optional
        What tells images that are unlike those that it was trained on, from their features.
    views : {'one', 'flips', 'all'}
        How many mirrored and transposed views of each image are averaged.
    single_channel : str, optional
        The channel that a lone grey image without a name is taken for.
    overwrite, as_zip : bool
        As for `write_bundle`.
    **described
        Other fields of `BundleSpec`, such as ``title``, ``evaluations`` or ``limits``. The name
        is the file's unless one is given.

    Returns
    -------
    ModelBundle
        The bundle in its place.

    Raises
    ------
    BundleError
        If a field is wrong, or the network does not fit its description.
    SelfTestError
        If the network, loaded again, predicts something else.
    AxesError
        If the test image has several planes.

    Examples
    --------
    >>> import tempfile
    >>> import napari_cellclf as cc
    >>> from napari_cellclf.models.architectures.registry import build_network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bundle = save_bundle(
    ...         build_network("compact-cnn", input_shape=(None, None, 1), n_classes=2, width=8),
    ...         Path(folder, "mine.cellclf"),
    ...         preprocessing=Preprocessing(channels=[{"name": "DNA"}]),
    ...         classes=["round", "long"],
    ...         architecture=ArchitectureSpec(name="compact-cnn", parameters={"width": 8}),
    ...         test_image=cc.Image(np.arange(1600.0).reshape(40, 40), "YX"),
    ...     )
    >>> bundle.spec.name, bundle.spec.class_names
    ('mine', ('round', 'long'))
    """
    _check_plane(test_image)
    # A bundle keeps pixels, and no other white than that of their type.
    test_image = replace(test_image, white=None)
    pixels = preprocessing.without_cutting(test_image)
    fields = {
        "name": Path(path).name.removesuffix(".cellclf"),
        "input": InputSpec(
            preprocessing=preprocessing,
            minimum_size=_minimum_size(network, preprocessing, pixels),
            views=views,
            single_channel=single_channel,
        ),
        "classes": [ClassSpec(name=c) if isinstance(c, str) else c for c in classes],
        "architecture": ArchitectureSpec(name="unknown"),
        "training": _with_versions(training or TrainingSpec()),
        "test_image": TestImageSpec(axes=test_image.axes, channels=tuple(test_image.channels)),
    }
    # Checked first, since rebuilding the network takes a moment.
    spec = _spec(fields | described)
    how, again = _rebuilt(architecture, network, len(spec.classes), spec.name)
    spec = spec.model_copy(update={"architecture": how})
    weights = dict(zip(weight_names(again), network.get_weights(), strict=True))
    raw = np.asarray(test_image.data)
    remedy = "free some space, or set TMPDIR to another disk"
    with (
        refusals(Path(tempfile.gettempdir()), BundleError, remedy),
        tempfile.TemporaryDirectory(prefix="cellclf-") as folder,
    ):
        fed = pixels[np.newaxis]
        answer = KerasEngine(network)(fed)
        files: dict[str, bytes | Path] = {
            WEIGHTS: dump_weights(weights),
            TEST_INPUT: dump_array(raw),
            TEST_OUTPUT: dump_array(answer),
        }
        if seen_images is not None:
            files[SEEN_IMAGES] = dump_array(seen_images.to_array())
        if unlikeness is not None:
            files[UNLIKE] = dump_weights(unlikeness.to_arrays())
            spec = spec.model_copy(update={"unlike": unlike_spec_of(unlikeness)})
        graph = write_graph(network, Path(folder), spec.name, fed, answer)
        if graph is not None:
            files[GRAPH] = graph
            rounding = measure_rounding(network, graph, typical, unlikeness)
            spec = spec.model_copy(update={"rounding": rounding})
        return write_bundle(path, spec, files, overwrite=overwrite, as_zip=as_zip, verify=_verify)


def write_graph(
    network: keras.Model,
    folder: Path,
    name: str,
    pixels: NDArray[np.float32],
    expected: NDArray[Any],
) -> Path | None:
    """Write a network as ``model.onnx``, if an engine then computes the same as Keras.

    `network`: ``(N, Y, X, C)`` in, ``(N, K)`` probabilities out; features and feature map are
    written, too, as far as it has them. `pixels`: ndarray, shape (N, Y, X, C), float32; prepared
    images. `expected`: ndarray, shape (N, K); Keras's predictions of them.
    """
    file = folder / GRAPH
    try:
        _write_onnx(network, file)
        content = file.read_bytes()
        check_onnx(content, GRAPH, inputs=(None, *pixels.shape[1:]), n_classes=expected.shape[1])
        _compare_onnx(file, pixels, Computed(expected, *_extras(network, pixels)))
    # An engine's own errors are RuntimeErrors; none of them may cost a network that was trained.
    except (ModelError, RuntimeError, MemoryError) as error:
        _log.info("%s has no %s, so only Keras can run it: %s", name, GRAPH, error)
        return None
    return file


def measure_rounding(
    network: keras.Model,
    graph: Path,
    images: Sequence[NDArray[np.float32]],
    unlikeness: Unlikeness | None = None,
) -> RoundingSpec | None:
    """Measure how rounding to 16 bits between the layers changes predictions and unlike scores.

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
        pairs = [
            [engine.compute(one[np.newaxis], features=unlikeness is not None) for one in images]
            for engine in (rounded, exact)
        ]
    except (EngineError, ImageTooLargeError) as error:
        _log.info("rounding was not measured: %s", error)
        return None
    probabilities = [[one.probabilities for one in computed] for computed in pairs]
    largest = _largest_away(*probabilities)
    if unlikeness is None:
        return RoundingSpec(n=len(images), largest=largest)
    scores = [
        [unlikeness.scores(one.features) for one in computed if one.features is not None]
        for computed in pairs
    ]
    return RoundingSpec(n=len(images), largest=largest, largest_unlike=_largest_away(*scores))


def _largest_away(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    away = [np.abs(one - other).max() for one, other in zip(found, expected, strict=True)]
    # NaN is as far away as can be.
    return float(np.nan_to_num(away, nan=1.0).max())


def _check_plane(test_image: Image) -> None:
    if test_image.leading_axes:
        raise AxesError(
            f"a test image with axes {test_image.axes} holds {test_image.n_planes} planes; "
            "give one of them"
        )


def _verify(path: Path) -> None:
    bundle = ModelBundle.load(path)
    run_self_test(bundle, KerasEngine.load(bundle))


def _spec(fields: dict[str, Any]) -> BundleSpec:
    try:
        return BundleSpec(**fields)
    except ValidationError as error:
        raise BundleError(f"the bundle cannot be described: {reason_of(error)}") from error


def _rebuilt(
    architecture: str | ArchitectureSpec, network: keras.Model, n_classes: int, name: str
) -> tuple[ArchitectureSpec, keras.Model]:
    """Find how a network is built again, and do it, with random weights.

    A network that its architecture does not build so is described by its layers.
    """
    if isinstance(architecture, str):
        architecture = ArchitectureSpec(name=architecture)
    fields: dict[str, Any] = {"n_parameters": int(network.count_params()), "layers": None}
    try:
        fields["version"] = architecture_version(architecture.name)
        fields["input_shape"] = tuple(network.input_shape[1:])
        how = architecture.model_copy(update=fields)
        again = built(architecture_builder(how, n_classes, name), name, _ignore)
    except (ArchitectureError, BundleError):
        pass
    else:
        if _is_the_same(network, again):
            return how, again
    fields |= {"input_shape": None, "version": 1, "as_pretrained": False}
    try:
        layers = read_network(json.loads(network.to_json()), f"the network of {name}").config
    except (NotImplementedError, TypeError) as error:
        raise UnsafeModelError(
            f"the network of {name} is not built by the architecture {architecture.name!r}, and "
            f"its layers cannot be described ({error}); register its architecture"
        ) from error
    how = architecture.model_copy(update=fields | {"layers": layers})
    return how, built(layers_builder(layers), name, _ignore)


def _ignore(network: keras.Model) -> None:
    """Look at nothing: the network was built by the caller himself."""


def _is_the_same(network: keras.Model, again: keras.Model) -> bool:
    """Whether a network that was built again computes the same, given the same weights."""
    signatures = [[(w.shape, w.dtype) for w in one.weights] for one in (network, again)]
    if signatures[0] != signatures[1]:
        return False
    try:
        return _outline(network.get_config()) == _outline(again.get_config())
    except (NotImplementedError, TypeError, ValueError):
        # Layers that cannot describe themselves; the test of the written bundle decides.
        return True


def _outline(config: dict[str, Any]) -> str:
    """Describe what a network computes, without what only matters to training, and its name."""
    kept = {key: value for key, value in config.items() if key != "name"}
    text = json.dumps(_without_training(kept), sort_keys=True, default=str)
    # Keras numbers layers without a name through the life of a process.
    return re.sub(r'_\d+"', '"', text)


def _without_training(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: _without_training(value)
            for key, value in config.items()
            if key not in _OF_TRAINING and not key.endswith(("_initializer", "_regularizer"))
        }
    if isinstance(config, list | tuple):
        return [_without_training(value) for value in config]
    return config


def _with_versions(training: TrainingSpec) -> TrainingSpec:
    versions = {
        "napari-cellclf": version("napari-cellclf"),
        "keras": keras.version(),
        "backend": keras.config.backend(),
    }
    return training.model_copy(update={"versions": versions | training.versions})


def _minimum_size(
    network: keras.Model, preprocessing: Preprocessing, pixels: np.ndarray[Any, Any]
) -> tuple[int, int] | None:
    """Find the smallest square the network can take, no larger than the test image."""
    if preprocessing.size is not None:
        return None
    low, high = 1, min(pixels.shape[:2])
    while low < high:
        middle = (low + high) // 2
        if _takes(network, middle, pixels.shape[-1]):
            high = middle
        else:
            low = middle + 1
    return low, low


def _takes(network: keras.Model, side: int, channels: int) -> bool:
    shape = (1, side, side, channels)
    try:
        network.compute_output_spec(keras.KerasTensor(shape))
    except ValueError:
        return False
    # Pooling an image away entirely is no error, but its mean is NaN.
    return bool(keras.ops.all(keras.ops.isfinite(network(np.zeros(shape, np.float32)))))


def _extras(network: keras.Model, pixels: NDArray[np.float32]) -> list[NDArray[Any] | None]:
    """Let Keras compute features and feature map of prepared images."""
    exposed = expose(network)
    # Without compiling it: for a few images that would take longer than they do.
    answers = exposed.giving(tuple(exposed.tensors))(pixels, training=False)
    found = dict(zip(exposed.tensors, answers[1:], strict=True)) if exposed.tensors else {}
    numbers = {extra: keras.ops.convert_to_numpy(answer) for extra, answer in found.items()}
    return [numbers.get(extra) for extra in EXTRAS]


def _write_onnx(network: keras.Model, file: Path) -> None:
    needed = _BYTES_PER_WEIGHT * int(network.count_params())
    if needed > LIMITS[GRAPH]:
        raise ExportError(
            f"its weights take {needed / 1e6:.0f} MB, which would double a large bundle (limit "
            f"{LIMITS[GRAPH] / 1e6:.0f} MB)"
        )
    file.write_bytes(to_onnx(network, extras=True))


def _compare_onnx(file: Path, pixels: NDArray[np.float32], expected: Computed) -> None:
    name = next((name for name in ENGINES if name != "keras" and find_spec(name)), None)
    if name is None:
        raise ExportError("no engine is installed to test it: openvino and onnxruntime are missing")
    content = file.read_bytes()
    graph = Graph(GRAPH, hashlib.sha256(content).hexdigest(), lambda: content)
    found = load_graph_engine(name, graph, "float32").compute(
        pixels, features=True, feature_map=True
    )
    difference = largest_difference(found.probabilities, expected.probabilities)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"its predictions are {difference:.2g} away from Keras's (limit {TOLERANCE:g})"
        )
    for extra in EXTRAS:
        away = _relative(getattr(found, extra), getattr(expected, extra))
        if not away <= _EXTRAS_TOLERANCE:
            raise ExportError(
                f"its {extra} is {away:.2%} away from Keras's (limit {_EXTRAS_TOLERANCE:.2%})"
            )


def _relative(found: NDArray[Any] | None, expected: NDArray[Any] | None) -> float:
    """Return the length of a difference as a fraction of the expected length."""
    if found is None or expected is None:
        return 0.0 if found is expected else np.inf
    if found.shape != expected.shape:
        return np.inf
    length = float(np.linalg.norm(expected)) + float(np.finfo(np.float32).tiny)
    return float(np.linalg.norm(found - expected)) / length
