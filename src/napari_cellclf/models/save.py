"""Save a trained network as a bundle that has proved it can be loaded."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from pydantic import ValidationError

from napari_cellclf.bundles.arrays import dump_array
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.members import GRAPH, NETWORK, TEST_INPUT, TEST_OUTPUT
from napari_cellclf.bundles.schema import (
    ArchitectureSpec,
    BundleSpec,
    InputSpec,
    TestImageSpec,
    TrainingSpec,
)
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.tta import Views
from napari_cellclf.errors import AxesError, BundleError
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.self_test import run_self_test
from napari_cellclf.models.graph_file import measure_rounding, write_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Sides of a test image where images keep their own size: at most, and where that is unknown.
_MOST_PIXELS, _TEST_SIDE = 256, 128


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
    views: Views = "one",
    overwrite: bool = False,
    as_zip: bool = False,
    **described: Any,
) -> ModelBundle:
    """Write a network with all it takes to use it, and load it once before it takes its place.

    It is written for Keras and, where it can be, as ``model.onnx`` for other engines.

    Parameters
    ----------
    network : keras.Model
        ``(N, Y, X, C)`` in, ``(N, K)`` probabilities out. Saved without optimizer.
    path : str or Path
        Where to; the name ends in ``.cellclf``.
    preprocessing : Preprocessing
        How its input is made.
    classes : sequence of (str or ClassSpec)
        In the order of the output.
    architecture : str or ArchitectureSpec
        Its name in the registry, with parameters where there are any.
    test_image : Image
        One raw plane, stored with the answer to it. It travels with the bundle: take one that
        may be passed on.
    typical : sequence of ndarray, shape (Y, X, C), float32
        Prepared images of the kind that it is for, preferably not those that it was trained on.
        They are not stored: on them it is found out whether it bears to be computed in 16 bits.
    training : TrainingSpec, optional
        What it was trained on; the versions of the software are filled in.
    views : {'one', 'flips', 'all'}
        From how many sides each image is looked at.
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
        If the network, loaded again, answers something else.
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
    pixels = preprocessing(test_image)
    fields = {
        "name": Path(path).name.removesuffix(".cellclf"),
        "input": InputSpec(
            preprocessing=preprocessing,
            minimum_size=_minimum_size(network, preprocessing, pixels),
            views=views,
        ),
        "classes": [ClassSpec(name=c) if isinstance(c, str) else c for c in classes],
        "architecture": _architecture(architecture, network),
        "training": _with_versions(training or TrainingSpec()),
        "test_image": TestImageSpec(axes=test_image.axes, channels=tuple(test_image.channels)),
    }
    spec = _spec(fields | described)
    raw = np.asarray(test_image.data)
    with tempfile.TemporaryDirectory(prefix="cellclf-") as folder:
        file = Path(folder) / NETWORK
        _without_optimizer(network).save(file)
        fed = pixels[np.newaxis]
        answer = KerasEngine(network)(fed)
        files: dict[str, bytes | Path] = {
            NETWORK: file,
            TEST_INPUT: dump_array(raw),
            TEST_OUTPUT: dump_array(answer),
        }
        graph = write_graph(network, Path(folder), spec.name, fed, answer)
        if graph is not None:
            files[GRAPH] = graph
            rounding = measure_rounding(network, graph, typical)
            spec = spec.model_copy(update={"rounding": rounding})
        return write_bundle(path, spec, files, overwrite=overwrite, as_zip=as_zip, verify=_verify)


def make_test_image(preprocessing: Preprocessing, sides: Sequence[int] = ()) -> Image:
    """Make an image to test a bundle with: blobs, so that no image of anybody's travels with it.

    `sides`: height and width of a prepared image, where images keep their own size. Returns 8 bits,
    ``CYX``; the same for the same size and channels.
    """
    from scipy.ndimage import gaussian_filter

    names = [spec.name for spec in preprocessing.channels]
    size = preprocessing.size or sides or (_TEST_SIDE, _TEST_SIDE)
    shape = [min(side, _MOST_PIXELS) if preprocessing.size is None else side for side in size]
    random = np.random.default_rng(zlib.crc32(" ".join(names).encode()))
    noise = random.normal(size=(len(names), *shape))
    smooth = np.stack([gaussian_filter(plane, 3, mode="wrap") for plane in noise])
    low = smooth.min(axis=(1, 2), keepdims=True)
    spread = np.ptp(smooth, axis=(1, 2), keepdims=True)
    planes = np.rint((smooth - low) / np.where(spread > 0, spread, 1) * 255).astype(np.uint8)
    return Image(planes, "CYX", names, source="simulated")


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
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise BundleError(f"a bundle cannot say {where}: {problem['msg']}") from error


def _architecture(architecture: str | ArchitectureSpec, network: keras.Model) -> ArchitectureSpec:
    if isinstance(architecture, str):
        architecture = ArchitectureSpec(name=architecture)
    return architecture.model_copy(update={"n_parameters": int(network.count_params())})


def _with_versions(training: TrainingSpec) -> TrainingSpec:
    versions = {
        "napari-cellclf": version("napari-cellclf"),
        "keras": keras.version(),
        "backend": keras.config.backend(),
    }
    return training.model_copy(update={"versions": versions | training.versions})


def _without_optimizer(network: keras.Model) -> keras.Model:
    """Copy a compiled network, since the state of its optimizer would triple the file."""
    if not network.compiled:
        return network
    copy = type(network).from_config(network.get_config())
    copy.set_weights(network.get_weights())
    return copy


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
    # Pooling an image away entirely is no error, but its mean is no number.
    return bool(keras.ops.all(keras.ops.isfinite(network(np.zeros(shape, np.float32)))))
