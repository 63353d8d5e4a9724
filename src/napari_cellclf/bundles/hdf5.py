"""Look into an HDF5 file of weights, in a process of its own with little memory and time.

``python -m napari_cellclf.bundles.hdf5 FILE START SIZE`` does the looking; `look_into` starts it.
Keras writes contiguous arrays without filters, so that links, external or virtual data, chunks and
object types are refused altogether.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from napari_cellclf import errors
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError

if TYPE_CHECKING:
    import h5py

MAX_OBJECTS = 10_000
MAX_DEPTH = 40
_MAX_DIMENSIONS = 8
_MAX_CONFIG = 1 << 22

_MEMORY = 1 << 29
#: By the clock, and for each byte of the file.
_SECONDS, _SECONDS_A_BYTE = 4.0, 1e-8
_PIECE = 1 << 22

#: What h5py raises when a file is not as it should be.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError)


@dataclass(frozen=True)
class Contents:
    """What is in an HDF5 file."""

    #: How many numbers its arrays hold, an optimizer's left out.
    n_numbers: int
    #: The configuration of the network, where Keras 2 wrote the file.
    config: str | None
    #: Which Keras wrote it, as far as it says.
    keras_version: str


def look_into(span: Span, path: Path) -> Contents:
    """Look into a file, or a part of one, in a process of its own.

    `span`: which part. `path`: of the file that it is in.
    """
    command = [sys.executable, "-P", "-m", __name__, str(path), str(span.start), str(span.size)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=_SECONDS + _SECONDS_A_BYTE * span.size,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired as error:
        raise UnsafeModelError(f"the weights of {path.name} take too long to be read") from error
    if done.returncode != 0:
        raise UnsafeModelError(f"the weights of {path.name} could not be read within bounds")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    return Contents(**answer)


def limit_memory(limit: int) -> None:
    """Let this process take no more than some memory, where the system can hold it to that.

    On Linux this bounds the data it asks for (``RLIMIT_DATA``); TensorFlow reserves too much room
    for addresses for ``RLIMIT_AS``. macOS takes the limit and does not hold to it, and Windows has
    none: there, the bounds of the static check and the time are what is left.
    """
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    # What is in memory need not be written to the disk when it ends badly.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def check_hdf5(span: Span) -> Contents:
    """Walk an HDF5 file in this process, refuse what is no plain array, read all numbers."""
    import h5py

    try:
        with h5py.File(_PartOfFile(span), "r") as file:
            n_numbers = _Walk(span).through(file)
            config, version = _text(file, "model_config"), _text(file, "keras_version")
    except _DAMAGE as error:
        raise BundleError(
            f"the weights of {span.name} are damaged or of another kind; save it again with Keras"
        ) from error
    except MemoryError as error:
        raise UnsafeModelError(f"the weights of {span.name} need too much memory") from error
    return Contents(n_numbers, config, (version or "")[:40])


class _PartOfFile(io.RawIOBase):
    """A stretch of a file as h5py wants to read it."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._span.size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._span.size - self._place))
        buffer[:count] = self._span.read(self._place, count)
        self._place += count
        return count


class _Walk:
    """Visits every object once and adds up what they declare."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.seen: set[int] = set()
        self.n_bytes = 0
        self.n_numbers = 0

    def refuse(self, what: str) -> NoReturn:
        raise UnsafeModelError(f"the weights of {self.span.name} {what}")

    def through(self, file: h5py.File) -> int:
        """Return how many numbers there are."""
        import h5py

        self.once(file)
        pending: list[tuple[h5py.Group, int]] = [(file, 0)]
        while pending:
            group, depth = pending.pop()
            for child in self.children(group):
                if isinstance(child, h5py.Group):
                    pending.append((child, depth + 1))
                elif isinstance(child, h5py.Dataset):
                    self.array(child)
                else:
                    self.refuse("hold more than groups and arrays")
            if depth > MAX_DEPTH:
                self.refuse("are nested too deeply")
        return self.n_numbers

    def children(self, group: h5py.Group) -> Iterator[Any]:
        import h5py

        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                self.refuse("hold a link to somewhere else")
            child = group[name]
            self.once(child)
            yield child

    def once(self, thing: Any) -> None:
        import h5py

        address = h5py.h5o.get_info(thing.id).addr
        if address in self.seen:
            self.refuse("hold the same thing twice")
        self.seen.add(address)
        if len(self.seen) > MAX_OBJECTS:
            self.refuse(f"hold over {MAX_OBJECTS} objects")

    def array(self, array: h5py.Dataset) -> None:
        import h5py

        what = f"hold array {array.name[-80:]!r}, which"
        properties = array.id.get_create_plist()
        layout = properties.get_layout()
        if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
            self.refuse(f"{what} takes its data from another file")
        if layout != h5py.h5d.CONTIGUOUS or properties.get_nfilters():
            self.refuse(f"{what} is not stored plainly, as Keras stores weights")
        if array.dtype.kind not in "fiub" or array.dtype.hasobject or array.dtype.itemsize > 8:
            self.refuse(f"{what} has something else instead of numbers")
        if array.shape is None or len(array.shape) > _MAX_DIMENSIONS:
            self.refuse(f"{what} is not stored plainly, as Keras stores weights")
        size = math.prod(array.shape)
        n_bytes, offset = size * array.dtype.itemsize, array.id.get_offset()
        self.n_bytes += n_bytes
        there = offset is not None and offset + n_bytes <= self.span.size >= self.n_bytes
        if not (0 < n_bytes == array.id.get_storage_size() and there):
            self.refuse(f"{what} declares {n_bytes} bytes that the file does not hold")
        # What training leaves beside the weights; networks are loaded without it.
        if not array.name.startswith(("/optimizer/", "/optimizer_weights/")):
            self.n_numbers += size
        if array.dtype.kind == "f":
            self.finite(array.name, array.dtype, offset, n_bytes)

    def finite(self, name: str, dtype: np.dtype[Any], offset: int, n_bytes: int) -> None:
        for place in range(offset, offset + n_bytes, _PIECE):
            piece = self.span.read(place, min(_PIECE, offset + n_bytes - place))
            if not np.isfinite(np.frombuffer(piece, dtype)).all():
                raise BundleError(
                    f"array {name[-80:]!r} in the weights of {self.span.name} holds NaN or "
                    "infinity; train it again"
                )


def _text(file: h5py.File, key: str) -> str | None:
    found = file.attrs.get(key)
    if isinstance(found, bytes):
        found = found.decode("utf-8")
    return found if isinstance(found, str) and len(found) <= _MAX_CONFIG else None


def main(path: str, start: str, size: str) -> None:
    """Write what is in a part of a file, or why it is refused, to the standard output."""
    import h5py  # noqa: F401  (it takes memory of its own)

    limit_memory(_MEMORY)
    file = Path(path)
    try:
        with open_plain(file) as handle:
            answer = asdict(check_hdf5(Span(handle, file.name, int(start), int(size))))
    except ModelError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
