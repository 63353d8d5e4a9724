"""Rebuild the network of a bundle in Keras, from its architecture or its checked layers.

No memory is allocated for weights before what the network asks for was compared with what the
bundle holds: networks are built in a ``keras.StatelessScope``, in which variables have a shape and
no value yet. They are built in a thread of their own, because the names that Keras gives to layers
count up through the life of a thread: so the same network always has the same names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.bundles.bundle import check_input
from napari_cellclf.bundles.schema import (
    MAX_ALL_NUMBERS,
    MAX_INPUT,
    MAX_NUMBERS,
    MAX_OPERATIONS,
    ArchitectureSpec,
)
from napari_cellclf.errors import ArchitectureError, BundleError, ModelError, UnsafeModelError
from napari_cellclf.inference.engine_library import is_exhausted, or_exhausted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle

#: Value of `weights` that asks for a network as for pretrained weights, with random numbers.
UNFILLED = "unfilled"

#: What Keras raises when a configuration or its weights do not fit together.
_BUILD_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    OSError,
    AssertionError,
    ArithmeticError,
    ImportError,
    NotImplementedError,
)

Build = Callable[[], keras.Model]
Check = Callable[[keras.Model], object]


def rebuild_bundle(
    bundle: ModelBundle, weights: Mapping[str, NDArray[Any]], layers: Mapping[str, Any] | None
) -> keras.Model:
    """Build the network of a bundle and give it its weights.

    `weights`, `layers`: as the bundle has read and checked them.
    """
    name = bundle.path.name

    def check(network: keras.Model) -> None:
        check_input(network.input_shape[1:], bundle.spec, name)
        _check_output(network, bundle)
        _compare(network, weights, name)

    architecture = bundle.spec.architecture
    if layers is None:
        make = architecture_builder(architecture, len(bundle.spec.classes), name)
    else:
        image = bundle.test_image
        size = tuple(image.shape[image.axes.index(axis)] for axis in "YX")
        given = bundle.spec.input.preprocessing.size or size
        make = layers_builder(layers)
        built(probe_builder(layers, given), name, lambda probe: check_extent(probe, name), False)
    network = built(make, name, check)
    network.set_weights([weights[key] for key in weight_names(network)])
    return network


def built(make: Build, name: str, check: Check, keep: bool = True) -> keras.Model:
    """Build a network, and allocate its weights only once it was checked.

    `keep`: whether they are allocated at all; a network is also built only to be looked at.
    """

    def build() -> keras.Model:
        scope = keras.StatelessScope(initialize_variables=False)
        with scope:
            network = make()
            check(network)
            scope.initialize_variables = keep
        return network

    try:
        # No other thread shares its state, so that what was refused is forgotten with it.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(build).result()
    except ModelError:
        raise
    except or_exhausted(*_BUILD_ERRORS) as error:
        raise build_error(name, error) from error


def layers_builder(layers: Mapping[str, Any]) -> Build:
    """Return how a network is built from layers that were checked, and from nothing else."""
    # Keras takes apart what it is given.
    return lambda: keras.saving.deserialize_keras_object(deepcopy(dict(layers)), safe_mode=True)


def probe_builder(layers: Mapping[str, Any], size: tuple[int, ...]) -> Build:
    """Return how the same network is built for images of one size, of which all sides are known."""
    config = deepcopy(dict(layers))
    first = next(
        layer for layer in config["config"]["layers"] if layer["class_name"] == "InputLayer"
    )
    batch, height, width, channels = (*first["config"]["batch_shape"], None, None)[:4]
    first["config"]["batch_shape"] = [batch, height or size[0], width or size[1], channels]
    return layers_builder(config)


def architecture_builder(architecture: ArchitectureSpec, n_classes: int, name: str) -> Build:
    """Return how a network is built from a registered architecture."""
    from napari_cellclf.models.architectures.registry import architecture_version, build_network

    shape = architecture.input_shape
    if shape is None or "weights" in architecture.parameters:
        raise BundleError(
            f"{name} does not say how its network is built by {architecture.name}; write it again"
        )
    try:
        version = architecture_version(architecture.name)
    except ArchitectureError as error:
        raise BundleError(
            f"the network of {name} is built by the architecture {architecture.name!r}, which is "
            "not installed; install the package that offers it"
        ) from error
    if version != architecture.version:
        raise BundleError(
            f"the network of {name} is built by version {architecture.version} of "
            f"{architecture.name}, but version {version} is installed; install that version"
        )
    return lambda: build_network(
        architecture.name,
        input_shape=shape,
        n_classes=n_classes,
        weights=UNFILLED if architecture.as_pretrained else None,
        **architecture.parameters,
    )


def weight_names(network: keras.Model) -> list[str]:
    """Name the weights of a network in their order: by their paths, with numbers where shared."""
    counts: Counter[str] = Counter()
    names = []
    for weight in network.weights:
        counts[weight.path] += 1
        number = counts[weight.path]
        names.append(weight.path if number == 1 else f"{weight.path}#{number}")
    return names


def check_extent(network: keras.Model, name: str) -> None:
    """Refuse a network that would take too much memory or time for one image.

    `network`: of which all sides of the input are known.
    """
    shape = network.input_shape[1:]
    if math.prod(shape) > MAX_INPUT:
        raise UnsafeModelError(
            f"{name} takes {' x '.join(map(str, shape))} numbers of one image; limit {MAX_INPUT}"
        )
    _Extent(name).through(network, keras.Input(shape, batch_size=1))


def build_error(name: str, error: BaseException) -> ModelError:
    """Say in one sentence why a network cannot be built."""
    if is_exhausted(error):
        return ModelError(
            f"the network of {name} needs more memory than is free; close other programs, or use a "
            "smaller model"
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BundleError(
        f"Keras cannot build the network of {name} ({first[:200]}); save it again with Keras 3"
    )


class _Extent:
    """Calls every layer of a network once more, and adds up what that would take."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers = 0
        self.operations = 0

    def through(self, network: keras.Model, inputs: Any) -> Any:
        if isinstance(network, keras.Sequential):
            for layer in network.layers:
                inputs = self.call(layer, inputs)
            return inputs
        again = keras.models.clone_model(
            network,
            input_tensors=inputs,
            clone_function=lambda layer: layer,
            call_function=self.call,
        )
        return again.output

    def call(self, layer: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model):
            return self.through(layer, *arguments)
        made = layer(*arguments, **options)
        shape = made.shape[1:]
        numbers = math.prod(shape)
        kernels = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
        self.numbers += numbers
        self.operations += numbers + math.prod(shape[:-1]) * kernels
        if numbers > MAX_NUMBERS:
            raise UnsafeModelError(
                f"{self.name} makes {numbers} numbers of one image in layer {layer.name[:80]!r}; "
                f"limit {MAX_NUMBERS}"
            )
        if self.numbers > MAX_ALL_NUMBERS:
            raise UnsafeModelError(
                f"{self.name} makes over {MAX_ALL_NUMBERS} numbers of one image in all"
            )
        if self.operations > MAX_OPERATIONS:
            raise UnsafeModelError(
                f"{self.name} takes over {MAX_OPERATIONS} multiplications for one image"
            )
        return made


def _check_output(network: keras.Model, bundle: ModelBundle) -> None:
    given, classes = tuple(network.output_shape), len(bundle.spec.classes)
    if given != (None, classes):
        raise BundleError(
            f"the network of {bundle.path.name} gives arrays of shape {given}, but its bundle "
            f"names {classes} classes; write the bundle again"
        )


def _compare(network: keras.Model, held: Mapping[str, NDArray[Any]], name: str) -> None:
    """Compare names, shapes and types of weights with those that the bundle holds."""
    asked = {
        key: (tuple(weight.shape), str(weight.dtype))
        for key, weight in zip(weight_names(network), network.weights, strict=True)
    }
    found = {key: (array.shape, str(np.dtype(array.dtype))) for key, array in held.items()}
    wrong = sorted(key for key in asked.keys() | found.keys() if asked.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise BundleError(
            f"the network of {name} asks for weights {key[:80]!r} of {_say(asked.get(key))}, but "
            f"its bundle holds {_say(found.get(key))}; write the bundle again"
        )


def _say(signature: tuple[tuple[int, ...], str] | None) -> str:
    return "nothing of that name" if signature is None else f"shape {signature[0]}, {signature[1]}"
