"""Folders as one lazy image: all sites of a plate, all times of a movie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, NoImagesError
from napari_cellclf.io.files import read_file, read_header
from napari_cellclf.io.local_paths import is_hidden, local_path
from napari_cellclf.io.named_images import NamedImage, find_images
from napari_cellclf.io.naming import Naming, NamingScheme, natural_key, schemes_of
from napari_cellclf.io.read import check_like, read_channel
from napari_cellclf.io.tiff import TiffHeader

T = TypeVar("T")

#: Entries of folders that are looked at to tell whether a folder is ours, and folders in folders.
_MAX_LOOKED_AT = 1000
_MAX_DEPTH = 4
#: Folders between a data set's root and its images.
_ROOT_FOLDERS = frozenset({"images", "train", "test"})
#: Where what is known of each plane goes, by the axis along which the planes are stacked.
_ROWS = {"P": "sites", "T": "frames"}

ReadPlane: TypeAlias = Callable[[Path], np.ndarray[Any, Any]]
#: Two sites of six channels: napari reads the first and the middle one when it opens a plate, and
#: both tell the contrast.
_KEPT_PLANES = 12
_KEPT_BYTES = 64 * 2**20


def read_stack(
    folder: str | os.PathLike[str], *, naming: Naming = None, limit_bytes: int | None = None
) -> Image:
    """Open the images of a folder that are named by a scheme as one lazy stack.

    `limit_bytes`: bytes of decoded pixels allowed in each file.
    """
    path = local_path(folder)
    if not path.is_dir():
        raise NoImagesError(f"{path} is not a folder; give a plate, an experiment or a movie")
    images = find_images(path, naming).named
    if not images:
        known = ", ".join(scheme.example for scheme in schemes_of(naming))
        raise NoImagesError(
            f"{path} holds no images named like {known}; open its images one by one"
        )
    # Several kinds are not one stack.
    (scheme, _), *_ = Counter(image.scheme for image in images).most_common(1)
    alike = [image for image in images if image.scheme == scheme]
    stack = _stack_channels if alike[0].has_channels else _stack_files
    return stack(alike, path, limit_bytes)


def looks_named(folder: str | os.PathLike[str], naming: Naming = None) -> bool:
    """Whether a folder holds images that a scheme names, at a glance."""
    return _glance(Path(folder), schemes_of(naming), _MAX_LOOKED_AT, _MAX_DEPTH)[0]


def _glance(
    folder: Path, schemes: Sequence[NamingScheme], budget: int, depth: int
) -> tuple[bool, int]:
    below = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                budget -= 1
                if is_hidden(entry.name):
                    continue
                path = folder / entry.name
                if any(scheme.parse(path) for scheme in schemes):
                    return True, budget
                if budget <= 0:
                    return False, 0
                known = entry.name.lower() in _ROOT_FOLDERS or any(
                    scheme.is_folder(entry.name) for scheme in schemes
                )
                if known and entry.is_dir():
                    below.append(entry.name)
    except OSError:
        return False, budget
    for name in sorted(below) if depth else ():
        found, budget = _glance(folder / name, schemes, budget, depth - 1)
        if found or budget <= 0:
            return found, budget
    return False, budget


def _stack_channels(images: list[NamedImage], folder: Path, limit_bytes: int | None) -> Image:
    """Stack images of a file for each channel; channels that one lacks are black there."""
    scheme = images[0].scheme
    present = sorted({channel for image in images for channel in image.files}, key=natural_key)
    paths = (path for image in images for path in image.files.values())
    first, header = _first_readable(paths, partial(read_header, limit_bytes=limit_bytes))
    shape, dtype = header.shape[:2], header.dtype

    def read(path: Path) -> np.ndarray[Any, Any]:
        plane = read_channel(path, limit_bytes=limit_bytes)
        check_like(path, plane.shape, plane.dtype, first, shape, dtype)
        return plane

    rows = [
        row | {"path": str(image.first)}
        for row, image in zip(scheme.describe(images), images, strict=True)
    ]
    missing = [scheme.channel_name(one) for one in scheme.channels if one not in present]
    return Image(
        lazy_stack([image.files for image in images], present, read, shape, dtype),
        scheme.stack_axis + "CYX",
        [scheme.channel_name(channel) for channel in present],
        white=header.white,
        source=str(folder),
        metadata={_ROWS[scheme.stack_axis]: rows, "missing_channels": missing},
    )


def _first_readable(paths: Iterable[Path], read: Callable[[Path], T]) -> tuple[Path, T]:
    """Read the first file that can be read; a damaged one must not close the whole folder."""
    failed: ImageError | None = None
    for path in paths:
        try:
            return path, read(path)
        except ImageError as error:
            failed = failed or error
    raise failed or NoImagesError("there is no image to read; give a folder that holds some")


def _stack_files(images: list[NamedImage], folder: Path, limit_bytes: int | None) -> Image:
    """Stack images of one file each, of the most common size."""
    kept, dtypes = _alike(images, limit_bytes)
    scheme, of_path = kept[0].scheme, {image.first: image for image in kept}
    read_whole = partial(read_file, limit_bytes=limit_bytes)

    first, example = _first_readable(of_path, read_whole)
    dtype = np.result_type(example.dtype, *dtypes)

    def read(path: Path) -> np.ndarray[Any, Any]:
        image = read_whole(path)
        check_like(path, image.shape, dtype, first, example.shape, dtype)
        return np.asarray(image.data)

    rows = [
        row | {"path": str(image.first)}
        for row, image in zip(scheme.describe(kept), kept, strict=True)
    ]
    return Image(
        lazy_stack([image.files for image in kept], None, read, example.shape, dtype),
        scheme.stack_axis + example.axes,
        example.channels,
        pixel_size=example.pixel_size,
        white=example.white,
        source=str(folder),
        metadata={
            _ROWS[scheme.stack_axis]: rows,
            "left_out": [image.first.name for image in images if image.first not in of_path],
        },
    )


def _alike(
    images: list[NamedImage], limit_bytes: int | None
) -> tuple[list[NamedImage], list[np.dtype[Any]]]:
    """Choose the single planes of the most common size; the first where two are as common."""
    headers: dict[Path, TiffHeader] = {}
    failed: ImageError | None = None
    for image in images:
        try:
            headers[image.first] = _plane_header(image.first, limit_bytes)
        except ImageError as error:
            failed = failed or error
    if failed and not headers:
        raise failed
    sizes = {path: _height_width(header) for path, header in headers.items()}
    (wanted, _), *_ = Counter(sizes.values()).most_common(1)
    kept = [image for image in images if sizes.get(image.first) == wanted]
    return kept, [headers[image.first].dtype for image in kept]


def _plane_header(path: Path, limit_bytes: int | None) -> TiffHeader:
    header = read_header(path, limit_bytes=limit_bytes)
    if header.axes.strip("S") != "YX":
        raise ImageError(
            f"{path}: has axes {header.axes}, but the images of a movie must be single planes; "
            "open it by itself"
        )
    return header


def _height_width(header: TiffHeader) -> tuple[int, int]:
    return header.shape[header.axes.index("Y")], header.shape[header.axes.index("X")]


def lazy_stack(
    files: Sequence[Mapping[str | int, Path]],
    channels: Sequence[str | int] | None,
    read: ReadPlane,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Any:
    """Stack files with one chunk a file.

    `read`: reads a file as an array of `shape`. Returns the planes read last are kept, at most 12
    of them in 64 MiB, so that what is looked at several times in a row is decoded once; a file that
    has changed since is read again.
    """
    from dask.array import map_blocks

    leading = (len(files),) if channels is None else (len(files), len(channels))
    chunks = (*((1,) * size for size in leading), *((size,) for size in shape))
    stack: Any = map_blocks(  # type: ignore[no-untyped-call]
        _Block(files, channels, read, shape, dtype),
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        # A name of its own keeps dask from hashing thousands of paths.
        name=f"images-{uuid4().hex}",
    )
    return stack


class _Recent:
    """The planes read last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._planes: dict[tuple[Path, int, int], np.ndarray[Any, Any]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[_Recent], tuple[int]]:
        # Sent to another process it starts with none.
        return _Recent, (self._count,)

    @classmethod
    def for_planes(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Recent:
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        return cls(min(_KEPT_PLANES, _KEPT_BYTES // size))

    def read(self, path: Path, read: ReadPlane) -> np.ndarray[Any, Any]:
        """Return a copy of the plane that is kept, or read it."""
        try:
            status = path.stat()
        except OSError:
            return read(path)
        key = (path, status.st_mtime_ns, status.st_size)
        with self._lock:
            plane = self._planes.pop(key, None)
        if plane is None:
            plane = read(path)
        with self._lock:
            self._planes[key] = plane
            while len(self._planes) > self._count:
                del self._planes[next(iter(self._planes))]
        # What is done to a plane by who asked for it must not reach who asks next.
        return plane.copy()


class _Block:
    """Read the file that a chunk of the array stands for."""

    # No dataclass: dask would look for arrays in its fields, file by file.
    def __init__(
        self,
        files: Sequence[Mapping[str | int, Path]],
        channels: Sequence[str | int] | None,
        read: ReadPlane,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.files, self.channels = files, channels
        self.read, self.shape, self.dtype = read, shape, dtype
        self.recent = _Recent.for_planes(shape, dtype)

    def __call__(self, block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        files = self.files[block_id[0]]
        path: Path | None
        if self.channels is None:
            (path,) = files.values()
        else:
            path = files.get(self.channels[block_id[1]])
        leading = (1,) * (len(block_id) - len(self.shape))
        if path is None:
            return np.zeros(leading + self.shape, self.dtype)
        plane = self.recent.read(path, self.read)
        return plane.astype(self.dtype, copy=False).reshape(leading + self.shape)
