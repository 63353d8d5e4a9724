"""Tensors in an ONNX file: as large as they say, and in the file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_cellclf.bundles.wire import Field, Wire

MAX_DIMENSIONS = 8
#: Constants up to this many numbers may say how large something becomes, and are read.
SMALL = 64

_DIMS, _TYPE, _FLOATS, _INT32S, _INT64S, _NAME, _RAW = 1, 2, 4, 5, 7, 8, 9
_DOUBLES, _UINT64S, _LOCATION = 10, 11, 14
#: Documentation and metadata.
_PASSED_OVER = (12, 16)
_REFUSED = {
    3: "a tensor in pieces",
    6: "texts instead of numbers",
    13: "a tensor in another file",
}
#: onnx.TensorProto.DataType to numpy's types.
TYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2",
    11: "<f8", 12: "<u4", 13: "<u8",
}  # fmt: skip
#: Where numbers that are not raw lie, by their size; others, of varying length, are small.
_WIDTHS = {_FLOATS: 4, _DOUBLES: 8}


@dataclass(frozen=True)
class Tensor:
    """A constant of a network."""

    #: What nodes call it.
    name: str
    #: Its shape.
    shape: tuple[int, ...]
    #: Its numbers, if they are few.
    values: tuple[float, ...] | None


def read_tensor(wire: Wire, start: int, size: int) -> Tensor:
    """Check a tensor."""
    name, dims, kind = "", list[int](), 0
    data: list[Field] = []
    for found in wire.fields(start, size):
        if found.number in _REFUSED:
            wire.refuse(f"holds {_REFUSED[found.number]}; only whole tensors in the file are taken")
        if found.number == _DIMS:
            dims += wire.wholes(found)
        elif found.number == _TYPE:
            kind = wire.whole(found)
        elif found.number == _NAME:
            name = wire.text(found)
        elif found.number == _LOCATION and wire.whole(found) != 0:
            wire.refuse("keeps a tensor in another file; save it as one file")
        elif found.number in (_RAW, _FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S):
            data.append(found)
        elif found.number != _LOCATION and found.number not in _PASSED_OVER:
            wire.refuse("holds a tensor with more than its numbers")
    if kind not in TYPES or len(dims) > MAX_DIMENSIONS or any(side < 0 for side in dims):
        wire.refuse(f"holds a tensor {name[:80]!r} that is no plain array of numbers")
    return Tensor(name, tuple(dims), _check_data(wire, name, dims, np.dtype(TYPES[kind]), data))


def _check_data(
    wire: Wire, name: str, dims: list[int], dtype: np.dtype[np.generic], data: list[Field]
) -> tuple[float, ...] | None:
    count = math.prod(dims)
    values: list[float] | None = None
    if all(found.number == _RAW for found in data):
        size = sum(found.size for found in data)
        # Half a number counts as none.
        held = -1 if size % dtype.itemsize else size // dtype.itemsize
        if len(data) == 1 and count <= SMALL and held == count:
            content = wire.content(data[0])
            values = np.frombuffer(content, dtype).tolist() if content else []
    elif all(found.number in _WIDTHS for found in data):
        held = sum(found.size // _WIDTHS[found.number] for found in data)
    else:
        listed = [number for found in data for number in wire.wholes(found)]
        held, values = len(listed), list(map(float, listed)) if len(listed) <= SMALL else None
    if held != count or len({found.number for found in data}) > 1:
        wire.refuse(
            f"holds a tensor {name[:80]!r} of shape {tuple(dims)} with {held} numbers; save "
            "it again"
        )
    return None if values is None else tuple(values)
