"""Write ONNX files by hand, field by field, as they are encoded."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def whole(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def message(field: int, *content: bytes | str) -> bytes:
    joined = b"".join(one.encode() if isinstance(one, str) else one for one in content)
    return varint(field << 3 | 2) + varint(len(joined)) + joined


def tensor(name: str, values: np.ndarray, *more: bytes) -> bytes:
    kind = {"float32": 1, "int64": 7}[values.dtype.name]
    dims = b"".join(whole(1, side) for side in values.shape)
    return dims + whole(2, kind) + message(8, name) + message(9, values.tobytes()) + b"".join(more)


def node(operator: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(message(1, name) for name in inputs) + message(2, output)
    return named + message(4, operator) + b"".join(message(5, one) for one in attributes)


def ints(name: str, *numbers: int) -> bytes:
    return message(1, name) + b"".join(whole(8, number) for number in numbers) + whole(20, 7)


def number(name: str, value: int) -> bytes:
    return message(1, name) + whole(3, value) + whole(20, 2)


def port(name: str, *sides: int | str, kind: int = 1) -> bytes:
    dims = [whole(1, side) if isinstance(side, int) else message(2, side) for side in sides]
    shape = message(2, *(message(1, dim) for dim in dims))
    return message(1, name) + message(2, message(1, whole(1, kind), shape))


def graph(
    *nodes: bytes,
    tensors: Sequence[bytes] = (),
    inputs: Sequence[bytes] = (port("image", "batch", 8, 8, 1),),
    outputs: Sequence[bytes] = (port("answer", "batch", 2),),
    more: bytes = b"",
) -> bytes:
    return b"".join(
        [
            *(message(1, one) for one in nodes),
            message(2, "graph"),
            *(message(5, one) for one in tensors),
            *(message(11, one) for one in inputs),
            *(message(12, one) for one in outputs),
            more,
        ]
    )


def model(body: bytes, *more: bytes, opset: int = 18, ir: int = 8) -> bytes:
    operators = message(8, message(1, ""), whole(2, opset))
    return whole(1, ir) + message(2, "by hand") + message(7, body) + operators + b"".join(more)


#: Flatten, a matrix, softmax.
NODES = (
    node("Flatten", ["image"], "flat"),
    node("Gemm", ["flat", "kernel", "bias"], "logits"),
    node("Softmax", ["logits"], "answer", message(1, "axis") + whole(3, -1) + whole(20, 2)),
)
TENSORS = (
    tensor("kernel", np.ones((64, 2), np.float32)),
    tensor("bias", np.zeros(2, np.float32)),
)


def whole_file() -> bytes:
    return model(graph(*NODES, tensors=TENSORS))


def float_attribute(name: str, value: float) -> bytes:
    return message(1, name) + varint(2 << 3 | 5) + struct.pack("<f", value) + whole(20, 1)


def text_attribute(name: str, value: str) -> bytes:
    return message(1, name) + message(4, value) + whole(20, 3)
