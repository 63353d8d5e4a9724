"""Resolve a configuration: settle what it leaves open, such as channels, size, normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.channels import ChannelSpec, says_nothing
from napari_cellclf.core.normalization import Fixed
from napari_cellclf.core.preprocessing import Preprocessing, central
from napari_cellclf.errors import DatasetError, InputError
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.naming import channel_facts, natural_key
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    from napari_cellclf.models.augmentation.config import AugmentationConfig
    from napari_cellclf.models.training.config import TrainingConfig

#: Files that are looked at until one can be read.
_TRIES = 100


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
    found, in_all = _found_channels(paths, naming)
    chosen = found
    if config.channels is not None:
        chosen = [_pick(name, found) for name in config.channels]
    optional = {_pick(name, found) for name in config.optional_channels}
    lacking = optional | (set(found) - in_all if config.channels is None else set())
    return tuple(_spec(name, required=name not in lacking) for name in chosen)


def _spec(name: str, *, required: bool = True) -> ChannelSpec:
    aliases, _ = channel_facts(name)
    return ChannelSpec(name=name, aliases=aliases, required=required)


def _pick(wanted: str, found: Sequence[str]) -> str:
    if wanted in found:
        return wanted
    spec = ChannelSpec(name=wanted)
    fits = [name for name in found if spec.matches(name) or _spec(name).matches(wanted)]
    if len(fits) != 1:
        raise DatasetError(
            f"the images have no one channel {wanted!r} (theirs: {', '.join(found)}); name one of "
            "them"
        )
    return fits[0]


def _found_channels(paths: Sequence[str], naming: str | None) -> tuple[list[str], set[str]]:
    """Name the channels of the images in order, and those that all of them have."""
    images = [named_image(Path(path), naming) for path in paths]
    if images and all(image is not None and image.has_channels for image in images):
        codes = {
            image.scheme.channel_name(code): natural_key(code)
            for image in images
            if image is not None
            for code in image.files
        }
        names = sorted(codes, key=codes.__getitem__)
        return names, set(names).intersection(*(image.channels for image in images if image))
    names = _channels_of_first(paths, naming)
    return names, set(names)


def _channels_of_first(paths: Iterable[str], naming: str | None) -> list[str]:
    reasons = []
    for path, _ in zip(paths, range(_TRIES), strict=False):
        try:
            channels = read_image(path, naming=naming).channels
        except InputError as error:
            reasons.append(str(error))
            continue
        if len(channels) == 1:
            return ["image" if says_nothing(channels[0]) else channels[0]]
        return [name or f"channel {number}" for number, name in enumerate(channels, start=1)]
    raise DatasetError(f"none of the training images can be read; the first: {reasons[0]}")


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
            pixels = central(np.moveaxis(image.to_cyx(), 0, -1), centre).astype(np.float64)
        except InputError:
            # Listed as bad when it is prepared.
            continue
        for channel, source in enumerate(sources):
            if source is not None:
                plane = pixels[..., source]
                counts[channel] += plane.size
                sums[channel] += plane.sum()
                squares[channel] += np.square(plane).sum()
    counts = np.maximum(counts, 1)
    means = sums / counts
    spreads = np.sqrt(np.maximum(squares / counts - means**2, 0))
    return Fixed(
        mean=tuple(map(float, means)), std=tuple(float(s) if s > 0 else 1.0 for s in spreads)
    )
