"""Read the numbers of a weights file through, once, as a stream: whole, and finite."""

from __future__ import annotations

import zlib

import numpy as np

from napari_cellclf.bundles.hdf5 import Array, Weights
from napari_cellclf.bundles.plainfile import Span
from napari_cellclf.errors import BundleError

_PIECE = 1 << 22


def crc_of(span: Span) -> int:
    """Compute the CRC-32 of a stretch of a file."""
    crc = 0
    for place in range(0, span.size, _PIECE):
        crc = zlib.crc32(span.read(place, min(_PIECE, span.size - place)), crc)
    return crc


def check_finite(span: Span, weights: Weights) -> None:
    """Refuse weights that hold NaN or infinity."""
    for path, array in weights.arrays.items():
        if array.dtype.kind == "f" and not _is_finite(span, array):
            raise BundleError(
                f"array {path[-80:]!r} in the weights of {span.name} holds NaN or infinity; the "
                "training went wrong"
            )


def read_array(span: Span, array: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Read one array.

    Returns of its shape and type; read-only.
    """
    numbers = np.frombuffer(span.read(array.offset, array.nbytes), array.dtype)
    return numbers.reshape(array.shape)


def _is_finite(span: Span, array: Array) -> bool:
    places = range(array.offset, array.offset + array.nbytes, _PIECE)
    end = array.offset + array.nbytes
    return all(
        bool(np.isfinite(np.frombuffer(span.read(at, min(_PIECE, end - at)), array.dtype)).all())
        for at in places
    )
