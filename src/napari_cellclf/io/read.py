"""Read one image the way a user means it: a file of a site is the whole site."""

from __future__ import annotations

import os

from napari_cellclf.core.image import Image
from napari_cellclf.io.drosophila import is_embryo_file, read_embryo
from napari_cellclf.io.files import local_path, read_file
from napari_cellclf.io.naming import named_image, read_named
from napari_cellclf.io.rxrx1 import is_site_file, read_site, site_of


def read_image(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> Image:
    """Read a microscopy image with what its file and its name say about it.

    Parameters
    ----------
    path : path
        A TIFF (OME, ImageJ, multi-page, ...), PNG or JPEG file, told apart by its content.

        - Any file of an RxRx1 site, ``HUVEC-01/Plate1/B02_s1_w3.png``, stands for the whole site:
          all its channels that exist are read.
        - A file named ``Stage(060)-20230811-Cycle00-embryo03-3.tif`` is an embryo at a minute;
          where it is RGB or RGBA of equal colours it becomes one channel.
        - A file named by a scheme of another package stands for all channels of its image.

    limit_bytes : int, optional
        Bytes of decoded pixels that one file may take; by default the number in the environment
        variable ``CELLCLF_MAX_IMAGE_BYTES``, or 1 GiB.

    Returns
    -------
    Image
        Pixels unchanged in their own dtype; axes as the file declares them (``Y`` and ``X``, ``C``
        channels, ``S`` samples of RGB, ``Z`` depth, ``T`` time, ``I`` or ``Q`` where it only says
        that there are several planes); channel names and pixel size in micrometres where it has
        them; ``metadata`` with what the name says: ``experiment, plate, well, site ...`` of a
        site (joined with RxRx1's ``metadata.csv`` if one lies in a folder above), or
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
    if os.path.isfile(file):  # noqa: PTH113
        if is_site_file(file.name):
            return read_site(site_of(file), limit_bytes=limit_bytes)
        if is_embryo_file(file.name):
            return read_embryo(file, limit_bytes=limit_bytes)
        named = named_image(file)
        if named is not None:
            return read_named(named, limit_bytes=limit_bytes)
    return read_file(file, limit_bytes=limit_bytes)
