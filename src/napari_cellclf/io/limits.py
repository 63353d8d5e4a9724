"""How much an image may declare before any of it is decoded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_cellclf.errors import ImageTooLargeError, InputError

if TYPE_CHECKING:
    import numpy as np

    from napari_cellclf.io.memory import AnyFile

#: Bytes of pixels that one image may take when nothing else is said: 1 GiB.
#: Files are read whole, multi-page ones too, so that it is also the memory that one may need.
DEFAULT_LIMIT_BYTES = 2**30

#: Bytes of pixels in one tile. Tiles in use are below 4096x4096; a larger one is decoded whole
#: even if the image is small, so it is a way to exhaust memory.
MAX_TILE_BYTES = 256 * 2**20

#: Environment variable that sets another limit, in bytes.
LIMIT_VARIABLE = "CELLCLF_MAX_IMAGE_BYTES"


def limit_or_default(limit_bytes: int | None) -> int:
    """Return the limit to use: the one given, that of the environment, or 1 GiB.

    `limit_bytes`: bytes of decoded pixels; None asks the environment variable
    ``CELLCLF_MAX_IMAGE_BYTES``. Returns bytes of decoded pixels.
    """
    stated = os.environ.get(LIMIT_VARIABLE, "") if limit_bytes is None else limit_bytes
    if stated == "":
        return DEFAULT_LIMIT_BYTES
    try:
        limit = int(stated)
    except ValueError:
        limit = 0
    if limit <= 0:
        raise InputError(
            f"the limit of pixel bytes is {stated!r} ({LIMIT_VARIABLE} or limit_bytes); "
            "give a whole number above 0"
        )
    return limit


def check_declared(
    path: AnyFile, shape: Sequence[int], dtype: np.dtype[Any], limit_bytes: int
) -> None:
    """Refuse an image whose header declares more pixels than the limit allows.

    `dtype`: type of a pixel. `limit_bytes`: bytes of decoded pixels.
    """
    declared = math.prod(int(size) for size in shape) * dtype.itemsize
    if declared > limit_bytes:
        sizes = "x".join(str(size) for size in shape)
        raise ImageTooLargeError(
            f"{path}: image declares {sizes} {dtype} ({human_bytes(declared)}); limit "
            f"{human_bytes(limit_bytes)}, set {LIMIT_VARIABLE} to a number of bytes to allow more"
        )


def check_tile(path: AnyFile, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Refuse an image whose single tiles are too large to decode.

    `dtype`: type of a pixel.
    """
    declared = math.prod(int(size) for size in shape) * dtype.itemsize
    if declared > MAX_TILE_BYTES:
        sizes = "x".join(str(size) for size in shape)
        raise ImageTooLargeError(
            f"{path}: image declares tiles of {sizes} {dtype} ({human_bytes(declared)}); limit "
            f"{human_bytes(MAX_TILE_BYTES)} a tile, write it with smaller tiles"
        )


def human_bytes(count: float) -> str:
    """Say a number of bytes in binary units.

    Examples
    --------
    >>> human_bytes(200_000 * 200_000 * 2)
    '74.5 GiB'
    """
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
