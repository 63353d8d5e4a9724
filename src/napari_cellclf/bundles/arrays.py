"""Read the small arrays of a bundle: never a pickle, never more than the file holds."""

from __future__ import annotations

import io
import math
import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The header of a `.npy` file as numpy writes it, for real numbers of up to eight axes; numpy's own
#: reader takes any Python literal there.
_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|\x02\x00....)"
    rb"\{'descr': '(?P<dtype>[<>|](?:b1|[iu][1248]|f[248]))', "
    rb"'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,10}(?:, \d{1,10}){0,7},?)?)\), \} *\n",
    re.DOTALL,
)
_LONGEST = 1 << 10


def parse_array(content: bytes, name: str) -> NDArray[Any]:
    """Read a ``.npy`` file from memory.

    `content`: bytes; the whole file.
    """
    start = content[:_LONGEST]
    found = _HEADER.match(start)
    if found is None or len(start) < found.end() or _declared_length(start) != found.end():
        raise BundleError(f"{name} is not a plain array as numpy writes it; get it again")
    dtype = np.dtype(found["dtype"].decode())
    shape = tuple(int(side) for side in found["shape"].replace(b",", b" ").split())
    if math.prod(shape) * dtype.itemsize != len(content) - found.end():
        raise BundleError(
            f"{name} declares {dtype} numbers of shape {shape}, which it does not hold"
        )
    numbers = np.frombuffer(content, dtype, offset=found.end())
    return numbers.reshape(shape, order="F" if found["fortran"] == b"True" else "C").copy()


def _declared_length(start: bytes) -> int:
    """Return where the numbers begin, by the length that stands before the header."""
    form, width = ("<H", 2) if start[6] == 1 else ("<I", 4)
    return 8 + width + int(struct.unpack_from(form, start, 8)[0])


def dump_array(array: NDArray[Any]) -> bytes:
    """Write an array as a ``.npy`` file into memory.

    Returns the whole file.
    """
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
