"""Uploaded images: which files belong together, and what their names say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageTooLargeError, InputError
from napari_cellclf.io.decoding import human_bytes
from napari_cellclf.io.files import read_memory
from napari_cellclf.io.memory import MemoryFile
from napari_cellclf.io.naming import CHANNEL, Fields, NamingScheme, natural_key, parse_name
from napari_cellclf.io.read import check_like, common_white, grey_plane
from napari_cellclf.io.sources import ImageSource


def upload_sources(
    files: Sequence[MemoryFile],
    *,
    channels: Sequence[str] = (),
    naming: str | None = None,
    limit_bytes: int | None = None,
) -> list[ImageSource]:
    """Say which images files are, as `collect_sources` does of those on a disk.

    `channels`: of the one image that all files are; by default their names say what they are.
    `naming`: tried before the installed schemes.
    `limit_bytes`: bytes of decoded pixels allowed in each image.

    Examples
    --------
    >>> files = [MemoryFile(f"B02_s1_w{channel}.png", b"") for channel in (2, 1)]
    >>> [source.id for source in upload_sources([*files, MemoryFile("other.tif", b"")])]
    ['B02_s1_w1.png', 'other.tif']
    """
    if channels:
        return [_chosen(files, channels, limit_bytes)]
    found: dict[tuple[Any, ...], _Upload] = {}
    for number, file in enumerate(files):
        known = _known(PurePath(file.name), naming)
        scheme, fields = known or (None, {})
        rest = {key: value for key, value in fields.items() if key != CHANNEL}
        # Without a channel, a file is an image.
        key = (scheme and scheme.name, *rest.items()) if CHANNEL in fields else (number,)
        _add(found.setdefault(key, _Upload(scheme, rest)), fields.get(CHANNEL, ""), file)
    expected = _expected_channels(found.values())
    return [_source(upload, expected, limit_bytes) for upload in found.values()]


def _known(path: PurePath, naming: str | None) -> tuple[NamingScheme, Fields] | None:
    return (parse_name(path, naming) if naming is not None else None) or parse_name(path)


@dataclass(frozen=True)
class _Upload:
    """The files of one image."""

    scheme: NamingScheme | None
    #: Without the channel.
    fields: Fields
    files: dict[str | int, MemoryFile] = field(default_factory=dict)


def _add(upload: _Upload, channel: str | int, file: MemoryFile) -> None:
    if channel in upload.files:
        raise InputError(
            f"{file.name} was sent twice; send each channel of a site once, and sites of the same "
            "well of several plates one after the other"
        )
    upload.files[channel] = file


def _expected_channels(uploads: Iterable[_Upload]) -> dict[str, set[str | int]]:
    """Collect the channels of a complete image of each scheme."""
    expected: dict[str, set[str | int]] = {}
    for upload in uploads:
        if upload.scheme is not None:
            known = upload.scheme.channels or upload.files
            expected.setdefault(upload.scheme.name, set()).update(known)
    return expected


def _source(
    upload: _Upload, expected: Mapping[str, set[str | int]], limit_bytes: int | None
) -> ImageSource:
    scheme, files = upload.scheme, upload.files
    if scheme is None or "" in files:
        (file,) = files.values()
        read = partial(read_memory, file, limit_bytes=limit_bytes)
        return ImageSource(file.name, upload.fields, read=read)
    lacking = sorted(expected[scheme.name] - files.keys(), key=natural_key)
    missing = [scheme.channel_name(channel) for channel in lacking]
    says = dict(upload.fields) | ({"missing_channels": missing} if missing else {})
    ordered = sorted(files, key=natural_key)
    listed = [files[channel] for channel in ordered]
    names = [scheme.channel_name(channel) for channel in ordered]
    return ImageSource(listed[0].name, says, read=partial(_read_planes, listed, names, limit_bytes))


def _chosen(
    files: Sequence[MemoryFile], channels: Sequence[str], limit_bytes: int | None
) -> ImageSource:
    if len(files) != len(channels):
        raise InputError(
            f"{counted(len(channels), 'channel')} ({', '.join(channels)}) "
            f"{'was' if len(channels) == 1 else 'were'} named for {counted(len(files), 'file')}; "
            "name one for each file, in their order"
        )
    return ImageSource(files[0].name, read=partial(_read_planes, files, channels, limit_bytes))


def _read_planes(
    files: Sequence[MemoryFile], names: Sequence[str], limit_bytes: int | None
) -> Image:
    planes: list[np.ndarray[Any, Any]] = []
    whites = set()
    for file in files:
        # Together they are one image, which may not be larger than one file.
        taken = sum(plane.nbytes for plane in planes)
        left = None if limit_bytes is None else max(1, limit_bytes - taken)
        try:
            image = read_memory(file, limit_bytes=left)
            planes.append(grey_plane(image, file))
            whites.add(image.white)
        except ImageTooLargeError:
            if limit_bytes is None or not planes:
                raise
            raise ImageTooLargeError(
                f"{files[0]} and the others up to {file} are one image, of more than "
                f"{human_bytes(limit_bytes)}; send smaller ones"
            ) from None
    for file, plane in zip(files, planes, strict=True):
        check_like(file, plane.shape, plane.dtype, files[0], planes[0].shape, planes[0].dtype)
    white = common_white(whites, files[0])
    return Image(np.stack(planes), "CYX", tuple(names), white=white, source=files[0].name)
