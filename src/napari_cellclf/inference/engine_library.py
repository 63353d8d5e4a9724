"""The libraries of the engines: importing them, and telling their errors for lack of memory."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from napari_cellclf.errors import EngineError, ImageTooLargeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


#: Of how many sizes OpenVINO keeps what it has made for each operation of a network of open size.
#: Its own 5000 take 600 MB after 600 sizes of images in EfficientNet-Lite0; these take 140 MB
#: however many follow, and 12 sizes in turn are still computed as fast (with 256, not).
_FEW_SIZES = {"CPU_RUNTIME_CACHE_CAPACITY": "512"}

#: What the errors of JAX's, PyTorch's, ONNX Runtime's and OpenVINO's allocators say, which have no
#: type of their own.
_FULL = (
    "RESOURCE_EXHAUSTED",
    "can't allocate memory",
    "out of memory",
    "Failed to allocate",
    "bad_alloc",
)

#: Several threads may want the same library at once.
_LOCK = threading.RLock()


def engine_library(name: str) -> Any:
    """Import the library of an engine."""
    try:
        return import_silently(name)
    except ImportError as error:
        raise EngineError(
            f"the engine {name} cannot be imported ({error}); install it with pip install "
            f'"napari-cellclf[{name}]", or use another engine'
        ) from error


def import_silently(name: str) -> Any:
    """Import a library without letting it tell anybody.

    OpenVINO 2026.4 tells Google Analytics of each import, in a forked process, and leaves a file
    with an identity in the user's home, unless its package `openvino_telemetry` is not there. ONNX
    Runtime 1.32 tells Microsoft, and leaves such a file as soon as it is imported, unless this
    variable is set by then; it stays, for others that import it later.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with _LOCK, _hidden("openvino_telemetry"):
        return importlib.import_module(name)


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let a package that was not imported yet seem not to be installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def openvino_core() -> Any:
    """Return the one `openvino.Core` of this process.

    Each `Core` gives the thread a stack for signals, and takes it back when it goes. Of two that go
    in the order they came, the second puts back the first one's, which is freed by then, and the
    next Ctrl-C is a segmentation fault (seen with OpenVINO 2026.4.1). One that stays takes nothing
    back.
    """
    with _LOCK:
        core, process = _core()
    check_process(process)
    return core


def usable_cores() -> int:
    """Count the processor cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def check_process(process: int, library: str = "OpenVINO") -> None:
    """Refuse to compute in a process that was forked from the one with a library's threads."""
    if os.getpid() != process:
        raise EngineError(
            f"{library} was started before this process was forked from another, and cannot "
            "compute here; start processes with the method 'spawn' of multiprocessing"
        )


@cache
def _core() -> tuple[Any, int]:
    core = engine_library("openvino").Core()
    # OpenVINO does not promise to keep this property.
    with suppress(RuntimeError):
        core.set_property("CPU", _FEW_SIZES)
    return core, os.getpid()


def or_exhausted(*errors: type[Exception]) -> tuple[type[Exception], ...]:
    """Add to a list of errors those that mean a want of memory."""
    tensorflow = sys.modules.get("tensorflow")
    # TensorFlow's is no RuntimeError; it can only be raised where TensorFlow is loaded.
    own = () if tensorflow is None else (tensorflow.errors.ResourceExhaustedError,)
    return (MemoryError, *own, *errors)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error means a want of memory."""
    if isinstance(error, or_exhausted()):
        return True
    return any(text in str(error) for text in _FULL)


def image_too_large(batch: NDArray[np.float32], place: str) -> ImageTooLargeError:
    """Make the error of a batch that did not fit.

    `batch`: ndarray, shape (N, Y, X, C), float32; what was to be computed.
    """
    count, height, width = batch.shape[:3]
    return ImageTooLargeError(
        f"{count} x {height} x {width} pixels need more memory than the {place} has free; give a "
        "smaller batch_size, or smaller images"
    )
