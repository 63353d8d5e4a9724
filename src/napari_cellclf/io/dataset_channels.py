"""Which channels the images of a data set have, and which of them all images have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_cellclf.core.channels import ChannelSpec, says_nothing
from napari_cellclf.errors import DatasetError, InputError
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.naming import channel_facts, natural_key
from napari_cellclf.io.read import read_image

#: Files that are looked at until one can be read.
_TRIES = 100


def channel_spec(name: str, *, required: bool = True) -> ChannelSpec:
    """Describe a channel by its name, with the aliases that an installed scheme knows."""
    aliases, _ = channel_facts(name)
    return ChannelSpec(name=name, aliases=aliases, required=required)


def found_channels(paths: Sequence[str], naming: str | None) -> tuple[list[str], set[str]]:
    """Name the channels of the images in order, and those that all of them have."""
    # Objects of one image have one path.
    paths = list(dict.fromkeys(paths))
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
