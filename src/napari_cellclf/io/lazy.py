"""Many files of one plane each as one dask array that reads them when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np

ReadPlane: TypeAlias = Callable[[Path], np.ndarray[Any, Any]]

#: Two sites of six channels: napari reads the first and the middle one when it opens a plate, and
#: both tell the contrast.
_KEPT_PLANES = 12
_KEPT_BYTES = 64 * 2**20


def lazy_stack(
    files: Sequence[Mapping[str | int, Path]],
    channels: Sequence[str | int] | None,
    read: ReadPlane,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Any:
    """Stack files with one chunk a file.

    `read`: reads a file as an array of `shape`. Returns the planes read last are kept, at most 12
    of them in 64 MiB, so that what is looked at several times in a row is decoded once; a file that
    has changed since is read again.
    """
    from dask.array import map_blocks

    leading = (len(files),) if channels is None else (len(files), len(channels))
    chunks = (*((1,) * size for size in leading), *((size,) for size in shape))
    stack: Any = map_blocks(  # type: ignore[no-untyped-call]
        _Block(files, channels, read, shape, dtype),
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        # A name of its own keeps dask from hashing thousands of paths.
        name=f"images-{uuid4().hex}",
    )
    return stack


class _Recent:
    """The planes read last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._planes: dict[tuple[Path, int, int], np.ndarray[Any, Any]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[_Recent], tuple[int]]:
        # Sent to another process it starts with none.
        return _Recent, (self._count,)

    @classmethod
    def for_planes(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Recent:
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        return cls(min(_KEPT_PLANES, _KEPT_BYTES // size))

    def read(self, path: Path, read: ReadPlane) -> np.ndarray[Any, Any]:
        """Return a copy of the plane that is kept, or read it."""
        try:
            status = path.stat()
        except OSError:
            return read(path)
        key = (path, status.st_mtime_ns, status.st_size)
        with self._lock:
            plane = self._planes.pop(key, None)
        if plane is None:
            plane = read(path)
        with self._lock:
            self._planes[key] = plane
            while len(self._planes) > self._count:
                del self._planes[next(iter(self._planes))]
        # What is done to a plane by who asked for it must not reach who asks next.
        return plane.copy()


class _Block:
    """Read the file that a chunk of the array stands for."""

    # No dataclass: dask would look for arrays in its fields, file by file.
    def __init__(
        self,
        files: Sequence[Mapping[str | int, Path]],
        channels: Sequence[str | int] | None,
        read: ReadPlane,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.files, self.channels = files, channels
        self.read, self.shape, self.dtype = read, shape, dtype
        self.recent = _Recent.for_planes(shape, dtype)

    def __call__(self, block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        files = self.files[block_id[0]]
        path: Path | None
        if self.channels is None:
            (path,) = files.values()
        else:
            path = files.get(self.channels[block_id[1]])
        leading = (1,) * (len(block_id) - len(self.shape))
        if path is None:
            return np.zeros(leading + self.shape, self.dtype)
        plane = self.recent.read(path, self.read)
        return plane.astype(self.dtype, copy=False).reshape(leading + self.shape)
