"""The child process that holds a network, started with a model, an engine and a precision.

It loads a model, then answers batches until its standard input ends. Each message, in and out, is a
line of JSON; batches and answers are followed by the bytes of their float32 array.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import CellclfError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.inference.engine_choice import EngineChoice, Precision

_FLOAT = np.dtype("<f4")


def main(reference: str, engine: EngineChoice, precision: Precision) -> int:
    """Serve a model over standard input and output."""
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever libraries print goes to where errors go, so that answers stay readable.
    os.dup2(2, 1)
    from napari_cellclf.inference.load import load_classifier

    try:
        classifier = load_classifier(
            reference, engine=engine, precision=precision, own_process=False
        )
    except CellclfError as error:
        _send_error(answers, error)
        return 1
    send(answers, {"device": classifier.device})
    while (message := receive(sys.stdin.buffer)) is not None:
        try:
            probabilities = classifier.engine(message[1])
        except (CellclfError, MemoryError) as error:
            _send_error(answers, error)
        else:
            send(answers, {}, probabilities)
    return 0


def send(stream: IO[bytes], header: dict[str, Any], array: NDArray[Any] | None = None) -> None:
    """Write a message.

    `array`: of numbers; sent as float32.
    """
    if array is None:
        stream.write(json.dumps(header).encode() + b"\n")
    else:
        stream.write(json.dumps({**header, "shape": array.shape}).encode() + b"\n")
        stream.write(np.ascontiguousarray(array, _FLOAT).data.cast("B"))
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], NDArray[np.float32]] | None:
    """Read a message."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    shape = header.get("shape", [0])
    wanted = math.prod(shape) * _FLOAT.itemsize
    content = stream.read(wanted)
    if len(content) < wanted:
        return None
    return header, np.frombuffer(content, _FLOAT).reshape(shape)


def _send_error(stream: IO[bytes], error: BaseException) -> None:
    send(stream, {"kind": type(error).__name__, "error": str(error) or "not enough memory"})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
