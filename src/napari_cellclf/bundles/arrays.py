"""Read the small arrays of a bundle: never a pickle, never more than the file holds."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from napari_cellclf.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parse_array(content: bytes, name: str) -> NDArray[Any]:
    """Read a ``.npy`` file from memory.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        What to call it in messages.

    Returns
    -------
    ndarray
        Of real numbers.

    Raises
    ------
    BundleError
        If it is not a complete array of real numbers.
    """
    stream = io.BytesIO(content)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    except (ValueError, EOFError, SyntaxError, RecursionError) as error:
        raise BundleError(f"{name} is not an array that numpy knows; get it again") from error
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.kind not in "buif" or declared != len(content) - stream.tell():
        raise BundleError(
            f"{name} declares {dtype} numbers of shape {shape}, which it does not hold"
        )
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def dump_array(array: NDArray[Any]) -> bytes:
    """Write an array as a ``.npy`` file into memory.

    Parameters
    ----------
    array : ndarray
        Of real numbers.

    Returns
    -------
    bytes
        The whole file.
    """
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
