"""Folders as one lazy image: all sites of a plate, all times of a movie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, NoImagesError
from napari_cellclf.io.drosophila import EmbryoName, find_frames, is_embryo_file, read_embryo
from napari_cellclf.io.files import is_hidden, local_path, read_header
from napari_cellclf.io.lazy import lazy_stack
from napari_cellclf.io.planes import check_like
from napari_cellclf.io.rxrx1 import (
    STAINS,
    SiteFiles,
    find_sites,
    is_site_file,
    is_site_folder,
    read_channel,
    sites_metadata,
)
from napari_cellclf.io.tiff import TiffHeader

T = TypeVar("T")

#: Entries of folders that are looked at to tell whether a folder is ours.
_MAX_LOOKED_AT = 1000
#: Folders between a data set's root and its experiments.
_ROOT_FOLDERS = frozenset({"images", "train", "test"})


def read_stack(folder: str | os.PathLike[str], *, limit_bytes: int | None = None) -> Image:
    """Open a folder of RxRx1 sites, or of an embryo's images, as one lazy stack.

    `limit_bytes`: bytes of decoded pixels allowed in each file.
    """
    path = local_path(folder)
    if not path.is_dir():
        raise NoImagesError(f"{path} is not a folder; give a plate, an experiment or a movie")
    sites = find_sites(path)
    if sites:
        return _stack_sites(sites, path, limit_bytes)
    frames = find_frames(path)
    if frames:
        return _stack_frames(frames, path, limit_bytes)
    raise NoImagesError(
        f"{path} holds no RxRx1 sites (Plate1/B02_s1_w1.png) and no embryo images "
        "(Stage(060)-20230811-Cycle00-embryo03-3.tif); open its images one by one"
    )


def looks_like_ours(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds RxRx1 sites or embryo images, at a glance."""
    return _glance(Path(folder), _MAX_LOOKED_AT)[0]


def _glance(folder: Path, budget: int) -> tuple[bool, int]:
    below = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                budget -= 1
                if is_site_file(entry.name) or is_embryo_file(entry.name):
                    return True, budget
                if budget <= 0:
                    return False, 0
                known = entry.name.lower() in _ROOT_FOLDERS or is_site_folder(entry.name)
                if known and not is_hidden(entry.name) and entry.is_dir():
                    below.append(entry.name)
    except OSError:
        return False, budget
    for name in sorted(below):
        found, budget = _glance(folder / name, budget)
        if found or budget <= 0:
            return found, budget
    return False, budget


def _stack_sites(sites: list[SiteFiles], folder: Path, limit_bytes: int | None) -> Image:
    present = [stain for stain in STAINS if any(stain.number in site.files for site in sites)]
    paths = (path for site in sites for path in site.files.values())
    first, header = _first_readable(paths, partial(read_header, limit_bytes=limit_bytes))
    shape, dtype = header.shape[:2], header.dtype

    def read(path: Path) -> np.ndarray[Any, Any]:
        plane = read_channel(path, limit_bytes=limit_bytes)
        check_like(path, plane.shape, plane.dtype, first, shape, dtype)
        return plane

    files, numbers = [site.files for site in sites], [stain.number for stain in present]
    rows = [
        row | {"path": str(site.first)}
        for row, site in zip(sites_metadata(sites), sites, strict=True)
    ]
    missing = [stain.name for stain in STAINS if stain not in present]
    return Image(
        lazy_stack(files, numbers, read, shape, dtype),
        "PCYX",
        [stain.name for stain in present],
        source=str(folder),
        metadata={"sites": rows, "missing_channels": missing},
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


def _stack_frames(
    frames: list[tuple[EmbryoName, Path]], folder: Path, limit_bytes: int | None
) -> Image:
    kept, dtypes = _alike(frames, limit_bytes)
    paths = [path for _, path in kept]
    stacked = set(paths)
    first, example = _first_readable(paths, partial(read_embryo, limit_bytes=limit_bytes))
    dtype = np.result_type(example.dtype, *dtypes)

    def read(path: Path) -> np.ndarray[Any, Any]:
        image = read_embryo(path, limit_bytes=limit_bytes)
        check_like(path, image.shape, dtype, first, example.shape, dtype)
        return np.asarray(image.data)

    files = [{0: path} for path in paths]
    return Image(
        lazy_stack(files, None, read, example.shape, dtype),
        "T" + example.axes,
        example.channels,
        pixel_size=example.pixel_size,
        source=str(folder),
        metadata={
            "frames": [name.metadata | {"path": str(path)} for name, path in kept],
            "left_out": [path.name for _, path in frames if path not in stacked],
        },
    )


def _alike(
    frames: list[tuple[EmbryoName, Path]], limit_bytes: int | None
) -> tuple[list[tuple[EmbryoName, Path]], list[np.dtype[Any]]]:
    """Choose the single planes of the most common size; the earliest where two are as common."""
    headers: dict[Path, TiffHeader] = {}
    failed: ImageError | None = None
    for _, path in frames:
        try:
            headers[path] = _plane_header(path, limit_bytes)
        except ImageError as error:
            failed = failed or error
    if failed and not headers:
        raise failed
    sizes = {path: _height_width(header) for path, header in headers.items()}
    (wanted, _), *_ = Counter(sizes.values()).most_common(1)
    kept = [(name, path) for name, path in frames if sizes.get(path) == wanted]
    return kept, [headers[path].dtype for _, path in kept]


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
