"""Resolve a configuration: settle what it leaves open, such as channels, size, normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.normalization import Fixed
from napari_cellclf.core.preprocessing import Preprocessing, central
from napari_cellclf.errors import DatasetError, InputError
from napari_cellclf.io.read import read_image
from napari_cellclf.io.rxrx1 import is_site_file, site_of, stain_channels

if TYPE_CHECKING:
    from napari_cellclf.models.augmentation.config import AugmentationConfig
    from napari_cellclf.models.training.config import TrainingConfig

#: Files that are looked at until one can be read.
_TRIES = 100


def resolve(paths: Sequence[str], config: TrainingConfig) -> tuple[TrainingConfig, Preprocessing]:
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
        preprocessing = preprocessing_of(paths, config)
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


def preprocessing_of(paths: Sequence[str], config: TrainingConfig) -> Preprocessing:
    """Settle everything about pixels that the configuration leaves open."""
    from napari_cellclf.models.architectures.registry import default_preprocessing

    specs = _channels(paths, config)
    settled = default_preprocessing(config.architecture, specs, weights=config.weights)
    changes: dict[str, object] = {"centre": config.centre}
    if config.size != "auto":
        changes["size"] = None if config.size == "own" else config.size
    if config.normalization == "fixed":
        changes["normalization"] = _measured(paths, specs, config.centre)
    elif config.normalization != "auto":
        changes["normalization"] = config.normalization
    return Preprocessing.model_validate(
        {name: getattr(settled, name) for name in Preprocessing.model_fields} | changes
    )


def _channels(paths: Sequence[str], config: TrainingConfig) -> tuple[ChannelSpec, ...]:
    found, in_all = _found_channels(paths)
    known = {spec.name: spec for spec in stain_channels()}
    chosen = found
    if config.channels is not None:
        chosen = [_pick(name, found) for name in config.channels]
    optional = {_pick(name, found) for name in config.optional_channels}
    lacking = optional | (set(found) - in_all if config.channels is None else set())
    aliases = {name: known[name].aliases if name in known else () for name in chosen}
    return tuple(
        ChannelSpec(name=name, aliases=aliases[name], required=name not in lacking)
        for name in chosen
    )


def _pick(wanted: str, found: Sequence[str]) -> str:
    if wanted in found:
        return wanted
    spec = ChannelSpec(name=wanted)
    stains = {stain.name: stain for stain in stain_channels()}
    fits = [
        name
        for name in found
        if spec.matches(name) or (name in stains and stains[name].matches(wanted))
    ]
    if len(fits) != 1:
        raise DatasetError(
            f"the images have no one channel {wanted!r} (theirs: {', '.join(found)}); name one of "
            "them"
        )
    return fits[0]


def _found_channels(paths: Sequence[str]) -> tuple[list[str], set[str]]:
    """Name the channels of the images in order, and those that all of them have."""
    sites = [path for path in paths if is_site_file(Path(path).name)]
    if sites and len(sites) == len(paths):
        each = [site_of(path).channels for path in sites]
        names = [spec.name for spec in stain_channels() if any(spec.name in one for one in each)]
        return names, set(names).intersection(*each)
    names = _channels_of_first(paths)
    return names, set(names)


def _channels_of_first(paths: Iterable[str]) -> list[str]:
    reasons = []
    for path, _ in zip(paths, range(_TRIES), strict=False):
        try:
            channels = read_image(path).channels
        except InputError as error:
            reasons.append(str(error))
            continue
        if len(channels) == 1:
            return [channels[0] or "image"]
        return [name or f"channel {number}" for number, name in enumerate(channels, start=1)]
    raise DatasetError(f"none of the training images can be read; the first: {reasons[0]}")


def _measured(paths: Sequence[str], specs: tuple[ChannelSpec, ...], centre: float) -> Fixed:
    """Measure mean and deviation of each channel over all training images."""
    counts = np.zeros(len(specs))
    sums = np.zeros(len(specs))
    squares = np.zeros(len(specs))
    plain = Preprocessing(channels=specs)
    for path in paths:
        try:
            image = read_image(path)
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
