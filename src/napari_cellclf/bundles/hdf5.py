"""Check the weights inside a `.keras` file before Keras reads them: plain arrays, really there."""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from napari_cellclf.errors import BundleError, UnsafeModelError

MAX_OBJECTS = 20_000
MAX_DEPTH = 40

_BLOCK = 1 << 22


def check_weights(handle: IO[bytes], name: str, size: int) -> int:
    """Walk an HDF5 file and refuse whatever is not a plain array of finite numbers.

    Keras writes contiguous arrays without filters and nothing else, so that links, external or
    virtual data, chunks and object types can be refused altogether.

    Parameters
    ----------
    handle : file
        Opened for reading in binary, seekable.
    name : str
        What to call the file in messages.
    size : int
        Its size in bytes.

    Returns
    -------
    int
        How many numbers it holds.

    Raises
    ------
    BundleError
        If it is not a complete HDF5 file, or a weight is not finite.
    UnsafeModelError
        If it holds anything else, or declares more than it holds.
    """
    import h5py

    try:
        with h5py.File(handle, "r") as file:
            return _Walk(name, size).run(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise BundleError(f"the weights of {name} are damaged; get the file again") from error


class _Walk:
    """Visits every object once and adds up what they declare."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.visited: set[int] = set()
        self.numbers = 0
        self.bytes = 0

    def run(self, file: Any) -> int:
        pending = [(file["/"], 0)]
        while pending:
            group, depth = pending.pop()
            if not self._first_visit(group):
                continue
            if depth > MAX_DEPTH:
                raise UnsafeModelError(f"the weights of {self.name} are nested too deeply")
            for key in group:
                child = self._child(group, key)
                if child is not None:
                    pending.append((child, depth + 1))
        return self.numbers

    def _first_visit(self, found: Any) -> bool:
        import h5py

        address = int(h5py.h5o.get_info(found.id).addr)
        if address in self.visited:
            return False
        self.visited.add(address)
        if len(self.visited) > MAX_OBJECTS:
            raise UnsafeModelError(f"the weights of {self.name} hold over {MAX_OBJECTS} objects")
        return True

    def _child(self, group: Any, key: str) -> Any:
        """Return a group to go into, or None for an array, which is checked here."""
        import h5py

        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UnsafeModelError(
                f"the weights of {self.name} hold a link to somewhere else ({key[:80]!r})"
            )
        child = group[key]
        if isinstance(child, h5py.Group):
            return child
        if not isinstance(child, h5py.Dataset):
            raise UnsafeModelError(f"the weights of {self.name} hold a {type(child).__name__}")
        if self._first_visit(child):
            self._check_array(child, key)
        return None

    def _check_array(self, array: Any, key: str) -> None:
        what = f"array {key[:80]!r} in the weights of {self.name}"
        if array.dtype.kind not in "fiub":
            raise UnsafeModelError(f"{what} holds {array.dtype} instead of numbers")
        if array.is_virtual or array.external is not None:
            raise UnsafeModelError(f"{what} takes its data from another file")
        if array.shape is None or array.chunks is not None or array.compression is not None:
            raise UnsafeModelError(f"{what} is not stored plainly, as Keras stores weights")
        declared = int(np.prod(array.shape, dtype=object)) * array.dtype.itemsize
        self.numbers += declared // array.dtype.itemsize
        self.bytes += declared
        if self.bytes > self.size or array.id.get_storage_size() != declared:
            raise UnsafeModelError(f"{what} declares {declared} bytes that the file does not hold")
        if array.dtype.kind == "f" and not _finite(array):
            raise BundleError(f"{what} holds NaN or infinity; the training went wrong")


def _finite(array: Any) -> bool:
    if array.ndim == 0:
        return bool(np.isfinite(array[()]))
    row = max(1, int(np.prod(array.shape[1:], dtype=object)))
    step = max(1, _BLOCK // row)
    return all(
        np.isfinite(array[start : start + step]).all() for start in range(0, len(array), step)
    )
