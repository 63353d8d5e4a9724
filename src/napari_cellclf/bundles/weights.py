"""The weights of a bundle: named arrays in a safetensors file, which can hold nothing else."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
