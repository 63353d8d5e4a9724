"""Read one image the way a user means it: a file of a site is the whole site."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, UnreadableImageError
from napari_cellclf.io.files import read_file
from napari_cellclf.io.local_paths import local_path
from napari_cellclf.io.memory import AnyFile
from napari_cellclf.io.named_images import NamedImage, named_image
from napari_cellclf.io.naming import Naming


def read_image(
    path: str | os.PathLike[str], *, naming: Naming = None, limit_bytes: int | None = None
) -> Image:
    """Read a microscopy image with what its file and its name say about it.

    Parameters
    ----------
    path : path
        A TIFF (OME, ImageJ, multi-page, ...), PNG or JPEG file, told apart by its content. A
        file whose name a naming scheme knows stands for all channels of its image, such as any
        of ``HUVEC-01/Plate1/B02_s1_w3.png`` for an RxRx1 site.
    naming : NamingScheme or str, optional
        How files are named: a pattern such as ``"{well}_s{site}_w{channel}.tif"``, or the name
        of an installed scheme; by default any scheme that is installed.
    limit_bytes : int, optional
        Bytes of decoded pixels that one file may take; by default the number in the environment
        variable ``CELLCLF_MAX_IMAGE_BYTES``, or 1 GiB.

    Returns
    -------
    Image
        Pixels in their own dtype, upright, with 0 as black, other colours as RGB, and grey that
        was saved as RGB as one channel; axes as the file declares them (``Y`` and ``X``, ``C``
        channels, ``S`` samples of RGB, ``Z`` depth, ``T`` time, ``P`` several images of one size,
        ``I`` or ``Q`` where it only says that there are several planes); channel names and
        pixel size in micrometres where it has them; ``metadata`` with what the name says:
        ``experiment, plate, well, site ...`` of a site (joined with
        RxRx1's ``metadata.csv`` if one lies in a folder above), or
        ``minute, date, cycle, embryo, slice ...`` of an embryo.

    Raises
    ------
    UnreadableImageError
        If there is no such file, or it is damaged, incomplete, or of another kind.
    ImageTooLargeError
        If it declares more pixels than the limit; nothing has been decoded then.
    AxesError
        If its axes cannot be understood.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import tifffile
    >>> import napari_cellclf as cc
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "Stage(060)-20230811-Cycle00-embryo03-3.tif")
    >>> tifffile.imwrite(path, np.ones((42, 111), "uint16"))
    >>> image = cc.read_image(path)
    >>> image.axes, image.shape, image.dtype.name
    ('YX', (42, 111), 'uint16')
    >>> image.metadata["minute"], image.metadata["embryo"]
    (60, 3)
    >>> folder.cleanup()
    """
    file = local_path(path)
    # Not Path.is_file, which raises where a name is too long or a folder is closed to us.
    named = named_image(file, naming) if os.path.isfile(file) else None  # noqa: PTH113
    if named is None:
        return read_file(file, limit_bytes=limit_bytes)
    return read_named(named, limit_bytes=limit_bytes)


def read_named(image: NamedImage, *, limit_bytes: int | None = None) -> Image:
    """Read all channels of an image, each a grey file of one size and type.

    `limit_bytes`: bytes of decoded pixels allowed in each file.
    """
    if not image.has_channels:
        alone = read_file(image.first, limit_bytes=limit_bytes)
        return replace(alone, metadata={**alone.metadata, **image.metadata})
    files = list(image.files.values())
    images = [read_file(file, limit_bytes=limit_bytes) for file in files]
    planes = [grey_plane(one, file) for one, file in zip(images, files, strict=True)]
    for file, plane in zip(files, planes, strict=True):
        check_like(file, plane.shape, plane.dtype, files[0], planes[0].shape, planes[0].dtype)
    return Image(
        np.stack(planes),
        "CYX",
        image.channels,
        white=common_white({one.white for one in images}, files[0]),
        source=str(files[0]),
        metadata=image.metadata,
    )


def read_channel(path: Path, *, limit_bytes: int | None = None) -> np.ndarray[Any, Any]:
    """Read the one plane of a file of an image, as stored.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    return grey_plane(read_file(path, limit_bytes=limit_bytes), path)


def check_like(
    path: AnyFile,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    first: AnyFile,
    first_shape: tuple[int, ...],
    first_dtype: np.dtype[Any],
) -> None:
    """Refuse a plane that does not go together with another."""
    if shape != first_shape or dtype != first_dtype:
        sizes = ["x".join(map(str, size)) for size in (shape, first_shape)]
        raise ImageError(
            f"{path}: is {sizes[0]} {dtype}, but {first} is {sizes[1]} {first_dtype}; images that "
            "are opened together must be of one size and type"
        )


def common_white(whites: Collection[float | None], first: AnyFile) -> float | None:
    """Return the white of channels that are opened together; refuse different ones."""
    if len(whites) > 1:
        raise ImageError(
            f"{first}: its channels declare different numbers of bits; save them alike"
        )
    return next(iter(whites))


def grey_plane(image: Image, path: AnyFile) -> np.ndarray[Any, Any]:
    """Return the one grey plane of an image.

    Returns as stored.
    """
    if image.axes != "YX":
        raise UnreadableImageError(
            f"{path}: a channel of a site must be a grey image, but this one has axes "
            f"{image.axes}; convert it to grey or rename it"
        )
    return np.asarray(image.data)
