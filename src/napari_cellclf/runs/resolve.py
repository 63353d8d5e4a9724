"""Resolve a configuration: settle what it leaves open, such as channels, size, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.normalization import Fixed
from napari_cellclf.core.preprocessing import Preprocessing, central
from napari_cellclf.errors import DatasetError, InputError
from napari_cellclf.io.dataset_channels import channel_spec, found_channels
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    from napari_cellclf.models.augmentation.config import AugmentationConfig
    from napari_cellclf.models.training.config import TrainingConfig


def resolve(
    paths: Sequence[str], config: TrainingConfig, naming: str | None = None
) -> tuple[TrainingConfig, Preprocessing]:
    """Return the configuration that is trained on some images, and how their pixels are prepared.

    Nothing about pixels, the network's parameters or dropped channels is left open in it; resolving
    it again changes nothing. Loads Keras.
    """
    from napari_cellclf.models.training.network import continued_bundle, network_parameters

    network: dict[str, object]
    if config.continue_from is not None:
        bundle = continued_bundle(config.continue_from).spec
        preprocessing, built = bundle.input.preprocessing, bundle.architecture
        network = {"architecture": built.name, "parameters": built.parameters, "weights": None}
    else:
        preprocessing = preprocessing_of(paths, config, naming)
        network = {"parameters": network_parameters(config, preprocessing)}
    channels = preprocessing.channels
    resolved = config.changed(
        **network,
        channels=tuple(spec.name for spec in channels),
        optional_channels=tuple(spec.name for spec in channels if not spec.required),
        centre=preprocessing.centre,
        size=preprocessing.size or "own",
        normalization=preprocessing.normalization.model_dump(),
        augmentation=_dropping(config.augmentation, preprocessing).model_dump(),
    )
    return resolved, preprocessing


def _dropping(augmentation: AugmentationConfig, preprocessing: Preprocessing) -> AugmentationConfig:
    """Teach the network to do without the channels that an image may lack."""
    optional = tuple(i for i, spec in enumerate(preprocessing.channels) if not spec.required)
    if not optional or augmentation.drop_together:
        return augmentation
    probability = augmentation.drop_together_probability or 0.5
    return augmentation.model_copy(
        update={"drop_together": optional, "drop_together_probability": probability}
    )


def preprocessing_of(
    paths: Sequence[str], config: TrainingConfig, naming: str | None = None
) -> Preprocessing:
    """Settle everything about pixels that the configuration leaves open."""
    from napari_cellclf.models.architectures.registry import default_preprocessing

    specs = _channels(paths, config, naming)
    settled = default_preprocessing(config.architecture, specs, weights=config.weights)
    changes: dict[str, object] = {"centre": config.centre}
    if config.size != "auto":
        changes["size"] = None if config.size == "own" else config.size
    if config.normalization == "fixed":
        changes["normalization"] = _measured(paths, specs, config.centre, naming)
    elif config.normalization != "auto":
        changes["normalization"] = config.normalization
    return Preprocessing.model_validate(
        {name: getattr(settled, name) for name in Preprocessing.model_fields} | changes
    )


def _channels(
    paths: Sequence[str], config: TrainingConfig, naming: str | None
) -> tuple[ChannelSpec, ...]:
    found, in_all = found_channels(paths, naming)
    chosen = found
    if config.channels is not None:
        chosen = [_pick(name, found) for name in config.channels]
    optional = {_pick(name, found) for name in config.optional_channels}
    lacking = optional | (set(found) - in_all if config.channels is None else set())
    return tuple(channel_spec(name, required=name not in lacking) for name in chosen)


def _pick(wanted: str, found: Sequence[str]) -> str:
    if wanted in found:
        return wanted
    spec = ChannelSpec(name=wanted)
    fits = [name for name in found if spec.matches(name) or channel_spec(name).matches(wanted)]
    if len(fits) != 1:
        raise DatasetError(
            f"the images have no one channel {wanted!r} (theirs: {', '.join(found)}); name one of "
            "them"
        )
    return fits[0]


def _measured(
    paths: Sequence[str], specs: tuple[ChannelSpec, ...], centre: float, naming: str | None
) -> Fixed:
    """Measure mean and deviation of each channel over all training images."""
    counts = np.zeros(len(specs))
    sums = np.zeros(len(specs))
    squares = np.zeros(len(specs))
    plain = Preprocessing(channels=specs)
    for path in paths:
        try:
            image = read_image(path, naming=naming)
            sources = plain.match(image).sources
            pixels = central(image.to_cyx(), centre).astype(np.float64)
        except InputError:
            # Listed as bad when it is prepared.
            continue
        for channel, source in enumerate(sources):
            if source is not None:
                plane = pixels[source]
                counts[channel] += plane.size
                sums[channel] += plane.sum()
                squares[channel] += np.square(plane).sum()
    counts = np.maximum(counts, 1)
    means = sums / counts
    spreads = np.sqrt(np.maximum(squares / counts - means**2, 0))
    return Fixed(
        mean=tuple(map(float, means)), std=tuple(float(s) if s > 0 else 1.0 for s in spreads)
    )
