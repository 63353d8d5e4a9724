"""The child process that holds a network, started with a model, an engine and a precision.

It loads the model, then computes batches until its standard input ends. Each message, in and out,
is a line of JSON, followed by the bytes of its float32 arrays: a batch, or probabilities and what
else was asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING

from napari_cellclf.errors import CellclfError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.process_engine import receive, send

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import Extra
    from napari_cellclf.inference.engine import Engine, EngineChoice, Precision


def main(reference: str, engine: EngineChoice, precision: Precision) -> int:
    """Serve a model over standard input and output."""
    return serve(partial(_load, reference, engine, precision))


def _load(reference: str, engine: EngineChoice, precision: Precision) -> Engine:
    classifier = load_classifier(reference, engine=engine, precision=precision, own_process=False)
    return classifier.engine


def serve(load: Callable[[], Engine]) -> int:
    """Load an engine and compute with it what standard input asks for."""
    output = os.fdopen(os.dup(1), "wb")
    # Whatever libraries print goes to standard error, so that the output stays readable.
    os.dup2(2, 1)
    try:
        engine = load()
    except CellclfError as error:
        _send_error(output, error)
        return 1
    send(output, {"device": engine.device, "gives": sorted(engine.gives)})
    while (message := receive(sys.stdin.buffer)) is not None:
        header, (batch,) = message
        try:
            answers = _answers(engine, batch, header["extras"])
        except (CellclfError, MemoryError) as error:
            _send_error(output, error)
        else:
            send(output, {}, *answers)
    return 0


def _answers(
    engine: Engine, batch: NDArray[np.float32], extras: list[Extra]
) -> list[NDArray[np.float32]]:
    if not extras:
        return [engine(batch)]
    computed = engine.compute(batch, **dict.fromkeys(extras, True))
    given = (getattr(computed, extra) for extra in extras)
    return [computed.probabilities, *given]


def _send_error(stream: IO[bytes], error: BaseException) -> None:
    send(stream, {"kind": type(error).__name__, "error": str(error) or "not enough memory"})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
