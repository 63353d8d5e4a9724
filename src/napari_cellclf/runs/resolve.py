"""Resolve a configuration: settle what it leaves open, such as channels, size, normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.normalization import Fixed
from napari_cellclf.core.objects import ImageObject, ObjectCrop, Plane
from napari_cellclf.core.preprocessing import Preprocessing, central
from napari_cellclf.errors import DatasetError, InputError
from napari_cellclf.io.dataset_channels import channel_spec, found_channels
from napari_cellclf.io.masks import numbered_objects, pick
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.augmentation.config import AugmentationConfig
    from napari_cellclf.models.training.config import TrainingConfig

#: Images on which the size of objects is measured.
_MEASURED_IMAGES = 20
#: Images whose pixel size is looked at.
_SIZED = 8
#: Boxes were drawn alike, and say nothing of an object's own size, where the usual one is so near
#: to the largest, in pixels. Discs that overlap or are cut by the border are smaller.
_DRAWN_ALIKE = 1
#: Sides of crops in pixels: where nothing is known, the smallest, and the largest.
_USUAL_SIDE, _LEAST_SIDE, _MOST_SIDE = 64, 32, 512


def resolve(
    paths: Sequence[str],
    config: TrainingConfig,
    naming: str | None = None,
    object_crop: ObjectCrop | None = None,
    planes: Sequence[Plane] = (),
) -> tuple[TrainingConfig, Preprocessing]:
    """Return the configuration that is trained on some images, and how their pixels are prepared.

    `object_crop`: how objects are cut out of them, from `settled_crop`. `planes`: which plane of
    each is trained on, if they are stacks.

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
        preprocessing = preprocessing_of(paths, config, naming, object_crop, planes)
        network = {"parameters": network_parameters(config, preprocessing)}
    channels = preprocessing.channels
    resolved = config.changed(
        **network,
        channels=tuple(spec.name for spec in channels),
        optional_channels=tuple(spec.name for spec in channels if not spec.required),
        centre=preprocessing.centre,
        object_crop=preprocessing.object_crop,
        size=preprocessing.size or "own",
        normalization=preprocessing.normalization.model_dump(),
        augmentation=_dropping(config.augmentation, preprocessing).model_dump(),
    )
    return resolved, preprocessing


def settled_crop(dataset: Dataset, config: TrainingConfig) -> ObjectCrop | None:
    """Return how objects are cut out of the images of a data set; None for whole images."""
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.catalogue import find_model

    asked: ObjectCrop | str | None = config.object_crop
    if config.continue_from is not None:
        name = config.continue_from
        asked = ModelBundle.load(find_model(name)).spec.input.preprocessing.object_crop
        if (asked is not None) != dataset.has_objects:
            knows, given = ("objects", "whole images") if asked else ("whole images", "objects")
            raise DatasetError(
                f"{name} classifies {knows}, but these data are {given}; continue another model, "
                "or train a new one"
            )
        return asked
    if not dataset.has_objects:
        if isinstance(asked, ObjectCrop):
            raise DatasetError(
                "object_crop is for objects, but these data are whole images; leave it out, or "
                "name objects in a table (path, mask, object, label)"
            )
        return None
    if config.centre != 1 or config.fixed_rotations:
        raise DatasetError(
            "centre and fixed_rotations are for whole images, but these data are objects; leave "
            "them out, or choose a preset for objects"
        )
    if asked is None:
        raise DatasetError(
            "these data are objects, but object_crop is off; set it to auto or to a rule"
        )
    return asked if isinstance(asked, ObjectCrop) else measured_crop(dataset)


def measured_crop(dataset: Dataset) -> ObjectCrop:
    """Measure on some images how much is cut out around an object."""
    first: dict[tuple[str, str | None, Plane], list[int]] = {}
    for row, key in enumerate(zip(dataset.paths, dataset.masks, dataset.planes, strict=True)):
        first.setdefault(key, []).append(row)
    planes = []
    for (path, mask, plane), rows in list(first.items())[:_MEASURED_IMAGES]:
        named = [one for one in (dataset.objects[row] for row in rows) if one is not None]
        try:
            image = read_image(path, naming=dataset.naming)
            planes.append(pick(numbered_objects(mask, image, plane), named))
        except InputError:
            # Listed as bad when it is prepared.
            continue
    return crop_around(planes)


def crop_around(planes: Iterable[Sequence[ImageObject]]) -> ObjectCrop:
    """Say how much is cut out around objects like those of some planes.

    Twice the usual larger side of an object's box. Of centres alone, and of discs of one size that
    were drawn around centres, three and a half times the usual distance to the next one.
    """
    boxes: list[tuple[int, int]] = []
    distances: list[float] = []
    for found in planes:
        there = [one.box for one in found if one.box is not None]
        boxes += [(box[2] - box[0], box[3] - box[1]) for box in there]
        distances += _distances(np.array([one.centre for one in found]))
    side = float(_USUAL_SIDE)
    if boxes and not _drawn(boxes):
        side = 2 * float(np.median([max(box) for box in boxes]))
    elif distances:
        side = 3.5 * float(np.median(distances))
    return ObjectCrop(side=float(np.clip(2 * round(side / 2), _LEAST_SIDE, _MOST_SIDE)))


def _drawn(boxes: Sequence[tuple[int, int]]) -> bool:
    """Whether most boxes are as large as any, as no segmentation gives them."""
    sides = [max(box) for box in boxes]
    return float(np.median(sides)) >= max(sides) - _DRAWN_ALIKE


def _distances(centres: NDArray[np.float64]) -> list[float]:
    centres = centres[np.isfinite(centres).all(axis=1)] if len(centres) else centres
    if len(centres) < 2:
        return []
    from scipy.spatial import cKDTree

    distances: NDArray[np.float64] = cKDTree(centres).query(centres, k=2)[0][:, 1]
    return [float(one) for one in distances]


def _size_for(crop: ObjectCrop, usual: tuple[int, int] | None) -> tuple[int, int]:
    """Choose what crops are resized to: hardly more than they are, nor than an architecture's."""
    known = crop.side is not None and crop.unit == "pixels"
    side = round((crop.side or 0) + 2 * crop.margin) if known else _USUAL_SIDE
    most = usual or (_MOST_SIDE, _MOST_SIDE)
    return min(most[0], max(_LEAST_SIDE, side)), min(most[1], max(_LEAST_SIDE, side))


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
    paths: Sequence[str],
    config: TrainingConfig,
    naming: str | None = None,
    object_crop: ObjectCrop | None = None,
    planes: Sequence[Plane] = (),
) -> Preprocessing:
    """Settle everything about pixels that the configuration leaves open."""
    from napari_cellclf.models.architectures.registry import default_preprocessing

    specs = _channels(paths, config, naming)
    settled = default_preprocessing(config.architecture, specs, weights=config.weights)
    changes: dict[str, object] = {"centre": config.centre, "object_crop": object_crop}
    if object_crop is not None:
        changes["size"] = _size_for(object_crop, settled.size)
    if config.size != "auto":
        changes["size"] = None if config.size == "own" else config.size
    if config.normalization == "fixed":
        changes["normalization"] = _measured(paths, planes, specs, config.centre, naming)
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
    paths: Sequence[str],
    planes: Sequence[Plane],
    specs: tuple[ChannelSpec, ...],
    centre: float,
    naming: str | None,
) -> Fixed:
    """Measure mean and deviation of each channel over all training images."""
    counts = np.zeros(len(specs))
    sums = np.zeros(len(specs))
    squares = np.zeros(len(specs))
    plain = Preprocessing(channels=specs)
    read = lru_cache(1)(partial(read_image, naming=naming))
    for path, plane in dict.fromkeys(zip(paths, planes or [()] * len(paths), strict=True)):
        try:
            image = read(path).plane(dict(plane)) if plane else read(path)
            sources = plain.match(image).sources
            pixels = central(image.to_cyx(), centre).astype(np.float64)
        except InputError:
            # Listed as bad when it is prepared.
            continue
        for channel, source in enumerate(sources):
            if source is not None:
                values = pixels[source]
                counts[channel] += values.size
                sums[channel] += values.sum()
                squares[channel] += np.square(values).sum()
    counts = np.maximum(counts, 1)
    means = sums / counts
    spreads = np.sqrt(np.maximum(squares / counts - means**2, 0))
    return Fixed(
        mean=tuple(map(float, means)), std=tuple(float(s) if s > 0 else 1.0 for s in spreads)
    )


def usual_pixel_size(train: Dataset, preprocessing: Preprocessing) -> float | None:
    """Return how many micrometres a pixel that the network is given usually covers, if known.

    The median of some training images from all over; None if one of these does not say.
    """
    paths = list(dict.fromkeys(train.paths))
    found = []
    for path in paths[:: 1 + len(paths) // _SIZED]:
        try:
            size = preprocessing.pixel_size(read_image(path, naming=train.naming))
        except InputError:
            # Left out of the training, too.
            continue
        if size is None:
            return None
        found.append(size)
    return float(np.median(found)) if found else None
