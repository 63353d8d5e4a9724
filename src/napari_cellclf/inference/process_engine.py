"""A network in a process of its own, as an engine for the `Classifier` here.

TensorFlow's wheels carry an LLVM whose symbols they offer to the whole process, and Mesa's OpenGL
drivers load the system's LLVM and do the same: in one process with a napari window on such a driver
the two kill each other (https://github.com/tensorflow/tensorflow/issues/109933 and /124205). In a
process of its own the network also leaves the window alone while it is loaded, can be stopped at
any moment, and gives its memory back.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from napari_cellclf import errors
from napari_cellclf.errors import CancelledError, CellclfError, ModelError
from napari_cellclf.inference.engine import Computed, asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import Extra
    from napari_cellclf.inference.engine import EngineChoice, Precision

_log = logging.getLogger(__name__)
_FLOAT = np.dtype("<f4")
_CHILD = "napari_cellclf.inference.engine_child"
_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


#: Those whose children may be alive.
_engines: weakref.WeakSet[ProcessEngine] = weakref.WeakSet()


@atexit.register
def close_engines() -> None:
    """End all children, so that no thread waits for one."""
    for engine in list(_engines):
        engine.close()


class ProcessEngine:
    """Computes a network in a child process, which ends with this object.

    `child`: the module that serves it, given the other three arguments.
    """

    def __init__(
        self,
        reference: str,
        engine: EngineChoice = "auto",
        precision: Precision = "auto",
        *,
        child: str = _CHILD,
    ) -> None:
        self.device = ""
        self.gives: frozenset[Extra] = frozenset()
        self._closed = False
        # One question at a time goes through the pipes.
        self._asking = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = _start(child, (reference, engine, precision), self._said)
        self._end = weakref.finalize(self, _end, self._process, self._said)
        # When Python ends, `close_engines` says first that it was closed on purpose.
        self._end.atexit = False
        _engines.add(self)

    def wait_until_ready(self) -> None:
        """Wait for the child to have loaded the model."""
        said = self._receive()[0]
        self.device, self.gives = said["device"], frozenset(said["gives"])

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute probabilities ``(N, K)`` of a batch ``(N, Y, X, C)``."""
        return self._ask(batch, ())[0]

    def compute(
        self, batch: NDArray[np.float32], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        """Compute; see `Engine`."""
        extras = asked_for(self.gives, features, feature_map)
        probabilities, *others = self._ask(batch, extras)
        return Computed(probabilities, **dict(zip(extras, others, strict=True)))

    def _ask(
        self, batch: NDArray[np.float32], extras: Sequence[Extra]
    ) -> list[NDArray[np.float32]]:
        with self._asking:
            try:
                send(self._pipes()[0], {"extras": list(extras)}, batch)
            except (OSError, ValueError):
                raise self._death() from None
            return self._receive()[1]

    def close(self) -> None:
        """End the child at once; may be called from any thread, and twice."""
        self._closed = True
        # Not by calling it: at the end of Python it may do nothing any more.
        self._end.detach()
        _end(self._process, self._said)

    def is_alive(self) -> bool:
        """Whether the child can be asked."""
        return not self._closed and self._process.poll() is None

    def _receive(self) -> tuple[dict[str, Any], list[NDArray[np.float32]]]:
        try:
            message = receive(self._pipes()[1])
        except ValueError:
            # Closed by another thread, or not our format.
            message = None
        if message is None:
            raise self._death()
        if "error" in message[0]:
            raise _error(message[0]["kind"], message[0]["error"])
        return message

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise self._death()
        return self._process.stdin, self._process.stdout

    def _death(self) -> CellclfError:
        if self._closed:
            return CancelledError("the classification was stopped as asked; start it again")
        self._process.kill()
        code = self._process.wait()
        self._said.seek(0)
        _log.error("the model's process said: %s", self._said.read().decode(errors="replace"))
        self._end()
        return ModelError(
            f"the process that runs the model ended by itself (exit code {code}), perhaps for lack "
            "of memory; the log has what it said, try a smaller image or another model"
        )


def send(stream: IO[bytes], header: dict[str, Any], *arrays: NDArray[Any]) -> None:
    """Write a message.

    `arrays`: of numbers; sent as float32.
    """
    shapes = [array.shape for array in arrays]
    stream.write(json.dumps({**header, "shapes": shapes}).encode() + b"\n")
    for array in (one for one in arrays if one.size):
        stream.write(np.ascontiguousarray(array, _FLOAT).data.cast("B"))
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[NDArray[np.float32]]] | None:
    """Read a message."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    arrays = []
    for shape in header.pop("shapes"):
        wanted = math.prod(shape) * _FLOAT.itemsize
        content = stream.read(wanted)
        if len(content) < wanted:
            return None
        arrays.append(np.frombuffer(content, _FLOAT).reshape(shape))
    return header, arrays


def window_is_open() -> bool:
    """Whether a Qt application is in this process, next to whose OpenGL TensorFlow may crash."""
    modules = (sys.modules.get(f"{binding}.QtWidgets") for binding in _BINDINGS)
    return any(module and module.QApplication.instance() is not None for module in modules)


def _start(child: str, arguments: tuple[str, str, str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P keeps modules that happen to lie in the current folder out of the child.
    command = [sys.executable, "-P", "-m", child, *arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _end(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    process.kill()
    process.wait()
    # A thread that waits for an answer has met the end of the file by now.
    for pipe in (process.stdin, process.stdout, said):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


def _error(kind: str, message: str) -> Exception:
    if kind == "MemoryError":
        return MemoryError(message)
    found = getattr(errors, kind, ModelError)
    return found(message) if issubclass(found, CellclfError) else ModelError(message)
