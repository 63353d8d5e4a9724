"""The boundary to the decoders: limits on sizes, errors as one sentence, and silence."""

from __future__ import annotations

import logging
import lzma
import math
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import check_sides
from napari_cellclf.errors import ImageError, ImageTooLargeError, InputError, UnreadableImageError

if TYPE_CHECKING:
    from napari_cellclf.io.memory import AnyFile


#: What tifffile, imagecodecs and the libraries behind them raise on damaged files, as seen by
#: feeding them truncated and altered ones. Codecs' own errors derive from RuntimeError, tifffile's
#: from ValueError, those of XML from SyntaxError.
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)

#: Bytes of pixels that one image may take when nothing else is said: 1 GiB.
#: Files are read whole, multi-page ones too, so that it is also the memory that one may need.
DEFAULT_LIMIT_BYTES = 2**30
#: Bytes of pixels in one tile. Tiles in use are below 4096x4096; a larger one is decoded whole
#: even if the image is small, so it is a way to exhaust memory.
MAX_TILE_BYTES = 256 * 2**20
#: Environment variable that sets another limit, in bytes.
LIMIT_VARIABLE = "CELLCLF_MAX_IMAGE_BYTES"


@contextmanager
def decoding(path: AnyFile) -> Iterator[None]:
    """Turn what a decoder raises into an `UnreadableImageError` that names the file."""
    try:
        # Damaged numbers in headers divide by zero; what matters of them is checked afterwards.
        with np.errstate(all="ignore"):
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise UnreadableImageError(
            f"{path}: there is not enough memory to decode it; use a smaller image"
        ) from error
    except PermissionError as error:
        raise UnreadableImageError(
            f"{path}: reading it is not permitted; change its permissions"
        ) from error
    except DECODER_ERRORS as error:
        raise UnreadableImageError(
            f"{path}: cannot be decoded ({_reason(error)}); it is damaged, incomplete or of an "
            "unsupported kind, copy it again or convert it"
        ) from error


def _reason(error: BaseException) -> str:
    # Object reprs that tifffile writes in front ("<tifffile.TiffPage 0 @8>") mean nothing to users.
    text = " ".join(str(error).split())
    start = text.find("> ") + 2 if text.startswith("<tifffile.") and "> " in text else 0
    return text[start : start + 160] or type(error).__name__


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
    if declared <= limit_bytes:
        # A list of bytes has no sides.
        check_sides(shape if len(shape) > 1 else (), path)
    else:
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


@contextmanager
def silenced(name: str) -> Iterator[None]:
    """Drop what a library logs in this thread, errors included.

    Our own checks say in one sentence what is wrong with a file; the library's running commentary
    on damaged tags would bury that sentence. Other threads' records pass, so that nobody else's
    use of the library goes quiet.
    """
    logger = logging.getLogger(name)
    me = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != me

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
