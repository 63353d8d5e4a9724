"""The network that a training begins with: a new one, or that of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.bundles.schema import ArchitectureSpec
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.models.architectures.registry import (
    build_network,
    find_architecture,
    weights_origin,
)
from napari_cellclf.models.devices import has_fast_bfloat16
from napari_cellclf.models.training.surgery import extend_classes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_cellclf.core.classes import ClassSpec
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.models.training.config import Scalar, TrainingConfig


@dataclass(frozen=True)
class Beginning:
    """What a training starts from."""

    #: Prepared images to probabilities of the classes.
    network: keras.Model
    #: How the bundle will describe it.
    architecture: ArchitectureSpec


def begin(
    config: TrainingConfig, preprocessing: Preprocessing, classes: Sequence[ClassSpec]
) -> Beginning:
    """Build the network of a training; the same seed makes the same one."""
    keras.utils.set_random_seed(config.seed)
    with _precision(config):
        if config.continue_from is not None:
            return _continued(config.continue_from, [spec.name for spec in classes])
        return _new(config, preprocessing, len(classes))


def continued_bundle(name_or_path: str) -> ModelBundle:
    """Find the bundle that a training goes on from."""
    return ModelBundle.load(find_model(name_or_path))


def network_parameters(
    config: TrainingConfig, preprocessing: Preprocessing
) -> dict[str, Scalar | list[Scalar]]:
    """Return what the network is built with: what is configured, and what follows from it."""
    accepted = find_architecture(config.architecture).parameters()
    parameters = dict(config.parameters)
    if "seed" in accepted:
        parameters.setdefault("seed", config.seed)
    if "unit_range" in accepted and preprocessing.normalization.unit_range:
        parameters.setdefault("unit_range", True)
    return parameters


def _new(config: TrainingConfig, preprocessing: Preprocessing, n_classes: int) -> Beginning:
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
    return Beginning(network, spec)


def _continued(name_or_path: str, classes: Sequence[str]) -> Beginning:
    bundle = continued_bundle(name_or_path)
    network = KerasEngine.load(bundle).network
    network = extend_classes(network, bundle.spec.class_names, classes)
    before = bundle.spec.architecture
    told = f"continued from the model {bundle.spec.name}"
    origin = f"{told}, itself from {before.pretrained}" if before.pretrained else told
    return Beginning(network, before.model_copy(update={"pretrained": origin}))


@contextmanager
def _precision(config: TrainingConfig) -> Iterator[None]:
    """Let networks that are built inside compute as configured."""
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
