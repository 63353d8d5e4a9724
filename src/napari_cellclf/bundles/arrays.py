"""The arrays of a bundle: `.npy` and safetensors, which can hold nothing but numbers."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.jsontext import parse_json
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


def parse_array(content: bytes, name: str, most: int | None = None) -> NDArray[Any]:
    """Read a ``.npy`` file from memory.

    `content`: bytes; the whole file. `most`: how many numbers it may hold.
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
    if most is not None and math.prod(shape) > most:
        raise BundleError(f"{name} holds {math.prod(shape):,} numbers; limit {most:,}")
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


#: The header names every array; a network of a thousand layers takes 200 kB.
_MAX_HEADER = 1 << 22
_LENGTH = struct.Struct("<Q")
#: Numbers looked at in one go.
_PIECE = 1 << 20


def dump_weights(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write arrays as a safetensors file into memory."""
    from safetensors import SafetensorError
    from safetensors.numpy import save

    try:
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"weights of this type cannot be saved ({error}); use float32") from error


def parse_weights(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Read a safetensors file from memory: its header bounded first, then every number finite."""
    # Not before it is needed: an engine other than Keras does without.
    from safetensors import SafetensorError
    from safetensors.numpy import load

    _check_header(content, name)
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _broken(name) from error
    for key, array in arrays.items():
        if array.dtype.kind == "f" and not _is_finite(array):
            raise BundleError(
                f"array {key[:80]!r} of {name} holds NaN or infinity; train the model again"
            )
    return arrays


def _check_header(content: bytes, name: str) -> None:
    if len(content) < _LENGTH.size:
        raise _broken(name)
    (length,) = _LENGTH.unpack_from(content)
    if length > min(_MAX_HEADER, len(content) - _LENGTH.size):
        raise _broken(name)
    header = content[_LENGTH.size : _LENGTH.size + length]
    # safetensors compares offsets, shapes and the length of the file; it takes a key twice.
    if not isinstance(parse_json(header.rstrip(b" "), f"the header of {name}"), dict):
        raise _broken(name)


def _is_finite(array: NDArray[Any]) -> bool:
    flat = array.ravel()
    return all(
        bool(np.isfinite(flat[at : at + _PIECE]).all()) for at in range(0, flat.size, _PIECE)
    )


def _broken(name: str) -> BundleError:
    return BundleError(f"{name} is not a complete safetensors file; get the bundle again")
