"""The network of a run: built or taken from a bundle, then split, frozen, or given more classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.bundles.schema import ArchitectureSpec
from napari_cellclf.errors import ArchitectureError, TrainingError
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.models.architectures.registry import (
    build_network,
    find_architecture,
    weights_origin,
)
from napari_cellclf.models.devices import has_fast_bfloat16

if TYPE_CHECKING:
    from napari_cellclf.core.classes import ClassSpec
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.models.training.config import Scalar, TrainingConfig

#: Layers that may follow the pooled features, from `architectures.transfer`.
_HEAD = ("hidden", "head_dropout", "probabilities")


@dataclass(frozen=True)
class InitialNetwork:
    """The network that a run starts from."""

    #: Prepared images to probabilities of the classes.
    network: keras.Model
    #: How the bundle will describe it.
    architecture: ArchitectureSpec


def initial_network(
    config: TrainingConfig, preprocessing: Preprocessing, classes: Sequence[ClassSpec]
) -> InitialNetwork:
    """Build the network that a run starts from; the same seed makes the same one."""
    keras.utils.set_random_seed(config.seed)
    with _precision(config):
        if config.continue_from is not None:
            return _continued(config.continue_from, [spec.name for spec in classes])
        return _new(config, preprocessing, len(classes))


def continued_bundle(name_or_path: str) -> ModelBundle:
    """Load the bundle that a run continues."""
    return ModelBundle.load(find_model(name_or_path))


def network_parameters(
    config: TrainingConfig, preprocessing: Preprocessing
) -> dict[str, Scalar | list[Scalar]]:
    """Return the parameters of the network: as configured, with seed and pixel range if used."""
    architecture = find_architecture(config.architecture)
    accepted = architecture.parameters()
    parameters = dict(architecture.settle(config.parameters))
    if "seed" in accepted:
        parameters.setdefault("seed", config.seed)
    if "unit_range" in accepted and preprocessing.normalization.unit_range:
        parameters.setdefault("unit_range", True)
    return parameters


def split_head(network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a network into two that share its weights.

    Returns images ``(N, Y, X, C)`` to features ``(N, F)``. Returns features to probabilities ``(N,
    K)``; training it trains `network`'s last layers.
    """
    layers = head_layers(network)
    features = layers[0].input
    backbone = keras.Model(network.input, features, name="backbone")
    inputs = keras.Input(features.shape[1:], name="features")
    tensor = inputs
    for layer in layers:
        tensor = layer(tensor)
    return backbone, keras.Model(inputs, tensor, name="head")


def head_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers that follow the pooled features of a pretrained backbone."""
    layers = [layer for layer in network.layers if layer.name in _HEAD]
    if not layers or layers[-1].name != _HEAD[-1] or network.layers[-len(layers) :] != layers:
        raise TrainingError(
            f"{network.name} has no backbone with a head of its own, so that head_epochs cannot be "
            "used; set head_epochs=0, or choose a pretrained architecture"
        )
    return layers


def thaw(network: keras.Model, depth: float) -> int:
    """Make the last layers of a network trainable."""
    layers = [layer for layer in _leaves(network) if layer.weights]
    first = len(layers) - math.ceil(depth * len(layers))
    for number, layer in enumerate(layers):
        layer.trainable = number >= first
    return int(sum(np.prod(weight.shape) for weight in network.trainable_weights))


def with_learnt_statistics(network: keras.Model) -> keras.Model:
    """Return a network whose batch normalisations use the learned statistics also in training.

    For small batches, whose own statistics are too rough. Scale and shift are still trained.
    """
    try:
        backbone, head = split_head(network)
    except TrainingError:
        return network
    inputs = keras.Input(network.input_shape[1:], name="images", dtype="float32")
    return keras.Model(inputs, head(_AsLearnt(backbone)(inputs)), name="network")


def extend_classes(network: keras.Model, old: Sequence[str], new: Sequence[str]) -> keras.Model:
    """Give a network other classes, keeping the weights of those it has."""
    if list(old) == list(new):
        return network
    ends = {id(layer) for layer in _leaves(network) if _is_output(layer, len(old))}
    if not ends:
        raise ArchitectureError(
            f"{network.name} does not end in a dense layer with softmax, so that classes cannot be "
            "added to it; train on the same classes, or from the start"
        )

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if id(layer) in ends:
            config["units"] = len(new)
        return type(layer).from_config(config)

    wider = keras.models.clone_model(network, clone_function=clone, recursive=True)
    pairs = zip(_leaves(network), _leaves(wider), strict=True)
    for before, after in pairs:
        if id(before) in ends:
            _copy_common(before, after, list(old), list(new))
        else:
            after.set_weights(before.get_weights())
    return wider


def restart_random(network: keras.Model) -> None:
    """Restart the random numbers of a network's dropout.

    A stage then draws the same numbers if the stage before ran in an earlier process.
    """
    for variable in network.variables:
        if variable.path.endswith("seed_generator_state"):
            # A seed, and how many numbers were drawn.
            seed, _ = keras.ops.convert_to_numpy(variable.value)
            variable.assign(np.array([seed, 0], variable.dtype))


def in_float32(network: keras.Model) -> keras.Model:
    """Copy a network that was trained in mixed precision to one that computes in float32."""
    mixed = any(layer.compute_dtype != "float32" for layer in _leaves(network))
    if not mixed:
        return network
    copy = type(network).from_config(_float32(network.get_config()))
    copy.set_weights(network.get_weights())
    return copy


def _new(config: TrainingConfig, preprocessing: Preprocessing, n_classes: int) -> InitialNetwork:
    found = find_architecture(config.architecture)
    # Networks for any size stay so: the bundle can then be used on images of other sizes.
    fixed = preprocessing.size is not None and not found.any_size
    size = preprocessing.size if fixed else None
    channels = len(preprocessing.channels)
    shape = (*(size or (None, None)), channels)
    parameters = network_parameters(config, preprocessing)
    network = build_network(
        config.architecture,
        input_shape=shape,
        n_classes=n_classes,
        weights=config.weights,
        **parameters,
    )
    origin = weights_origin(found.name, config.weights, channels)
    spec = ArchitectureSpec(
        name=found.name,
        version=found.version,
        parameters=parameters,
        pretrained=origin,
        as_pretrained=config.weights is not None,
    )
    return InitialNetwork(network, spec)


def _continued(name_or_path: str, classes: Sequence[str]) -> InitialNetwork:
    bundle = continued_bundle(name_or_path)
    network = KerasEngine.load(bundle).network
    network = extend_classes(network, bundle.spec.class_names, classes)
    before = bundle.spec.architecture
    told = f"continued from the model {bundle.spec.name}"
    origin = f"{told}, itself from {before.pretrained}" if before.pretrained else told
    return InitialNetwork(network, before.model_copy(update={"pretrained": origin}))


@contextmanager
def _precision(config: TrainingConfig) -> Iterator[None]:
    """Build networks inside with the configured precision."""
    wanted = config.precision
    if wanted == "auto":
        wanted = "bfloat16" if has_fast_bfloat16() else "float32"
    policy = wanted if wanted == "float32" else f"mixed_{wanted}"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _AsLearnt(keras.layers.Layer):
    """Computes a network as in prediction, also in training.

    A layer of its own, since a model that is called hands its own mode on to all inside.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__(name="as_learnt")
        self._network = network

    def call(self, inputs: Any) -> Any:
        """Compute."""
        return self._network(inputs, training=False)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the shape without computing."""
        return self._network.compute_output_spec(inputs)


def _is_output(layer: keras.layers.Layer, units: int) -> bool:
    dense = isinstance(layer, keras.layers.Dense)
    return dense and layer.units == units and layer.activation is keras.activations.softmax


def _copy_common(before: Any, after: Any, old: list[str], new: list[str]) -> None:
    kernel, bias = (np.array(value) for value in after.get_weights())
    old_kernel, old_bias = before.get_weights()
    # An unknown class starts as unlikely as the known ones are on average.
    bias[:] = old_bias.mean()
    for column, name in enumerate(new):
        if name in old:
            kernel[:, column] = old_kernel[:, old.index(name)]
            bias[column] = old_bias[old.index(name)]
    after.set_weights([kernel, bias])


def _leaves(network: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _float32(config: Any) -> Any:
    """Replace every precision in a configuration."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float32"
        return {key: _float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_float32(value) for value in config)
    return config
