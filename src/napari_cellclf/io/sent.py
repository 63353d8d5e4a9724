"""Images that somebody sent as files: which files belong together, and what their names say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageTooLargeError, InputError
from napari_cellclf.io.drosophila import is_embryo_file, parse_name
from napari_cellclf.io.files import read_memory
from napari_cellclf.io.limits import human_bytes
from napari_cellclf.io.memory import MemoryFile
from napari_cellclf.io.planes import check_like, collapse_grey, grey_plane
from napari_cellclf.io.rxrx1_names import is_site_file, parse_path
from napari_cellclf.io.rxrx1_stains import STAINS
from napari_cellclf.io.sources import ImageSource


def sent_sources(
    files: Sequence[MemoryFile], *, channels: Sequence[str] = (), limit_bytes: int | None = None
) -> list[ImageSource]:
    """Say which images files are, as `collect_sources` does of those on a disk.

    `limit_bytes`: bytes of decoded pixels allowed in each image.

    Examples
    --------
    >>> files = [MemoryFile(f"B02_s1_w{channel}.png", b"") for channel in (2, 1)]
    >>> [source.id for source in sent_sources([*files, MemoryFile("other.tif", b"")])]
    ['B02_s1_w1.png', 'other.tif']
    """
    if channels:
        return [_named(files, channels, limit_bytes)]
    sites: dict[tuple[str, int], dict[int, MemoryFile]] = {}
    order: list[MemoryFile | tuple[str, int]] = []
    for file in files:
        if not is_site_file(file.name):
            order.append(file)
            continue
        name = parse_path(file.name)
        key = (name.well, name.site)
        if key not in sites:
            order.append(key)
        _add(sites.setdefault(key, {}), name.channel, file)
    return [
        _single(entry, limit_bytes)
        if isinstance(entry, MemoryFile)
        else _site(entry, sites[entry], limit_bytes)
        for entry in order
    ]


def _add(site: dict[int, MemoryFile], channel: int, file: MemoryFile) -> None:
    if channel in site:
        raise InputError(
            f"{file.name} was sent twice; send each channel of a site once, and sites of the same "
            "well of several plates one after the other"
        )
    site[channel] = file


def _single(file: MemoryFile, limit_bytes: int | None) -> ImageSource:
    if not is_embryo_file(file.name):
        return ImageSource(file.name, read=partial(read_memory, file, limit_bytes=limit_bytes))
    says = parse_name(file.name).metadata
    return ImageSource(file.name, says, read=partial(_read_embryo, file, limit_bytes))


def _read_embryo(file: MemoryFile, limit_bytes: int | None) -> Image:
    return collapse_grey(read_memory(file, limit_bytes=limit_bytes))


def _site(
    key: tuple[str, int], files: Mapping[int, MemoryFile], limit_bytes: int | None
) -> ImageSource:
    ordered = dict(sorted(files.items()))
    missing = [stain.name for stain in STAINS if stain.number not in ordered]
    says = {"well": key[0], "site": key[1]} | ({"missing_channels": missing} if missing else {})
    names = [STAINS[number - 1].name for number in ordered]
    listed = list(ordered.values())
    return ImageSource(listed[0].name, says, read=partial(_read_planes, listed, names, limit_bytes))


def _named(
    files: Sequence[MemoryFile], channels: Sequence[str], limit_bytes: int | None
) -> ImageSource:
    if len(files) != len(channels):
        raise InputError(
            f"{len(channels)} channels ({', '.join(channels)}) were named for {len(files)} files; "
            "name one for each file, in their order"
        )
    return ImageSource(files[0].name, read=partial(_read_planes, files, channels, limit_bytes))


def _read_planes(
    files: Sequence[MemoryFile], names: Sequence[str], limit_bytes: int | None
) -> Image:
    planes: list[np.ndarray[Any, Any]] = []
    for file in files:
        # Together they are one image, which may not be larger than one file.
        taken = sum(plane.nbytes for plane in planes)
        left = None if limit_bytes is None else max(1, limit_bytes - taken)
        try:
            planes.append(grey_plane(read_memory(file, limit_bytes=left), file))
        except ImageTooLargeError:
            if limit_bytes is None or not planes:
                raise
            raise ImageTooLargeError(
                f"{files[0]} and the others up to {file} are one image, of more than "
                f"{human_bytes(limit_bytes)}; send smaller ones"
            ) from None
    for file, plane in zip(files, planes, strict=True):
        check_like(file, plane.shape, plane.dtype, files[0], planes[0].shape, planes[0].dtype)
    return Image(np.stack(planes), "CYX", tuple(names), source=files[0].name)
