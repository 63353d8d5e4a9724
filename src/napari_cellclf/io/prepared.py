"""Prepared images on disk: decoded, turned, resized and normalised once, then only mapped.

A set is one file of float32 numbers and one of JSON that says where each image lies. Its name is
made from the files (path, size, time of change) and the preprocessing, so that a second training
on the same images finds it, and a changed image makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.rotation import rotate_image
from napari_cellclf.errors import CancelledError, DatasetError, InputError
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.read import read_image
from napari_cellclf.io.rxrx1 import is_site_file, site_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image

#: Sets that were not used for longest go first when all together would take more, in bytes.
MOST_BYTES = 50 * 2**30
_FORMAT = 1
#: Images that are decoded ahead of the one being written.
_AHEAD = 8
_FLOAT = 4
#: Seconds without a change after which nobody writes a set any more.
_ABANDONED = 3600


@dataclass(frozen=True)
class Item:
    """One image as training sees it: a file, and by how much it is turned.

    Parameters
    ----------
    path : str
        What `read_image` takes.
    degrees : float
        Counter-clockwise; 0 leaves the image as it is.
    """

    path: str
    degrees: float = 0.0


class PreparedImages:
    """Prepared images that lie on disk and are read as they are asked for.

    Parameters
    ----------
    file : Path
        The numbers.
    shapes : sequence of tuple of int
        ``(Y, X, C)`` of each image, in order.
    bad : mapping of int to str
        Why an image is missing, by its number; its shape is ``(0, 0, 0)``.
    """

    def __init__(
        self, file: Path, shapes: Sequence[tuple[int, ...]], bad: dict[int, str] | None = None
    ) -> None:
        self.file = file
        self.shapes = [tuple(shape) for shape in shapes]
        self.bad = dict(bad or {})
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        total = int(self._starts[-1])
        self._numbers: NDArray[np.float32] = (
            np.memmap(file, np.float32, "r", shape=(total,)) if total else np.zeros(0, np.float32)
        )

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: int, /) -> NDArray[np.float32]:
        """Return one image, ``(Y, X, C)`` float32, without copying it."""
        start, end = self._starts[number], self._starts[number + 1]
        return self._numbers[start:end].reshape(self.shapes[number])


def prepare_images(
    items: Sequence[Item],
    preprocessing: Preprocessing,
    *,
    frame: Literal["keep", "grow"] = "keep",
    folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> PreparedImages:
    """Read, turn and prepare images, unless that has been done before.

    Parameters
    ----------
    items : sequence of Item
        What to prepare.
    preprocessing : Preprocessing
        From an image to the network's input.
    frame : {'keep', 'grow'}
        What turning does to the frame.
    folder : Path, optional
        Where sets are kept; ``prepared`` in the folder of the cache by default.
    on_progress, should_stop : callable
        Told and asked after each image.

    Returns
    -------
    PreparedImages
        In the order of the items. Images that cannot be read or prepared are in `bad`.

    Raises
    ------
    CancelledError
        If `should_stop` answered yes; nothing is kept then.
    DatasetError
        If the disk has no room for the set, or refuses.
    """
    folder = cache_folder() / "prepared" if folder is None else folder
    key = set_key(items, preprocessing, frame)
    found = _load(folder, key, len(items))
    if found is not None:
        on_progress(Progress(len(items), len(items), "images were prepared before"))
        return found
    prepare = _Preparer(preprocessing, frame)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        _make_room(folder, MOST_BYTES)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as beside:
            shapes, bad = _write(Path(beside), items, prepare, on_progress, should_stop)
            index = {"format": _FORMAT, "shapes": shapes, "bad": bad}
            Path(beside, "index").write_text(json.dumps(index), encoding="utf-8")
            # The index last: where it is, the numbers are whole.
            Path(beside, "numbers").replace(folder / f"{key}.f32")
            Path(beside, "index").replace(folder / f"{key}.json")
    except OSError as error:
        raise DatasetError(
            f"the prepared images cannot be written to {folder} ({error.strerror or error}); free "
            "some space, or set CELLCLF_CACHE to another folder"
        ) from error
    return PreparedImages(folder / f"{key}.f32", shapes, bad)


def set_key(items: Sequence[Item], preprocessing: Preprocessing, frame: str) -> str:
    """Name a set after everything that its numbers depend on.

    Parameters
    ----------
    items : sequence of Item
        Files and angles.
    preprocessing : Preprocessing
        With all its numbers.
    frame : str
        As for `prepare_images`.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    # Another version of the package may read or resize in another way.
    made_by = f"{_FORMAT} {version('napari-cellclf')}"
    digest = hashlib.sha256(f"{made_by}\n{preprocessing.model_dump_json()}\n{frame}".encode())
    for item in items:
        digest.update(f"\n{item.degrees!r}".encode())
        for file in _files_of(item.path):
            digest.update(f"\t{file}\t{_stamp(file)}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _files_of(path: str) -> list[str]:
    if is_site_file(Path(path).name):
        return [str(file) for file in site_of(path).files.values()]
    return [path]


def _stamp(file: str) -> str:
    try:
        found = os.stat(file)  # noqa: PTH116 - half the time of Path.stat, for many files
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"


class _Preparer:
    """Turns an item into pixels, or into the reason why not."""

    def __init__(self, preprocessing: Preprocessing, frame: Literal["keep", "grow"]) -> None:
        self._preprocessing = preprocessing
        self._frame = frame

    def __call__(self, item: Item) -> NDArray[np.float32] | str:
        try:
            image: Image = read_image(item.path)
            if item.degrees:
                image = rotate_image(image, item.degrees, self._frame)
            return self._preprocessing(image)
        except InputError as error:
            return str(error)


def _write(
    folder: Path,
    items: Sequence[Item],
    prepare: Callable[[Item], NDArray[np.float32] | str],
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> tuple[list[tuple[int, ...]], dict[int, str]]:
    shapes: list[tuple[int, ...]] = []
    bad: dict[int, str] = {}
    written = 0
    with (folder / "numbers").open("wb") as file:
        for number, pixels in enumerate(_ahead(items, prepare)):
            if isinstance(pixels, str):
                bad[number] = pixels
                shapes.append((0, 0, 0))
            else:
                if not written:
                    _check_room(folder, pixels.size * _FLOAT * len(items))
                file.write(np.ascontiguousarray(pixels).data)
                written += pixels.size
                shapes.append(pixels.shape)
            on_progress(Progress(number + 1, len(items), "preparing images"))
            if should_stop():
                raise CancelledError(f"stopped after preparing {number + 1} of {len(items)} images")
    return shapes, bad


def _ahead(items: Sequence[Item], prepare: Callable[[Item], Any]) -> Iterator[Any]:
    """Prepare some items ahead in threads, and hand them over in order."""
    waiting = iter(items)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        futures = [threads.submit(prepare, item) for item in islice(waiting, _AHEAD)]
        try:
            while futures:
                yield futures.pop(0).result()
                futures += [threads.submit(prepare, item) for item in islice(waiting, 1)]
        finally:
            for future in futures:
                future.cancel()


def _load(folder: Path, key: str, count: int) -> PreparedImages | None:
    index_file, file = folder / f"{key}.json", folder / f"{key}.f32"
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        shapes = [tuple(int(side) for side in shape) for shape in index["shapes"]]
        bad = {int(number): str(reason) for number, reason in index["bad"].items()}
        size = file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    expected = sum(int(np.prod(shape)) for shape in shapes) * _FLOAT
    if index.get("format") != _FORMAT or len(shapes) != count or size != expected:
        return None
    # Says which set was used last.
    os.utime(file)
    return PreparedImages(file, shapes, bad)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free * 0.95:
        raise DatasetError(
            f"the prepared images need {needed / 2**30:.1f} GiB in {folder}, where "
            f"{free / 2**30:.1f} GiB are free; free some space, set CELLCLF_CACHE to a larger "
            "disk, or choose a smaller size"
        )


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed left half-written.

    Parameters
    ----------
    folder : Path
        Of this cache.
    """
    for partial in folder.glob(".*.partial"):
        try:
            last = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
        except OSError:
            # Its process has just finished it.
            continue
        if time.time() - last > _ABANDONED:
            shutil.rmtree(partial, ignore_errors=True)


def _make_room(folder: Path, most: int) -> None:
    files = []
    for file in folder.glob("*.f32"):
        # Another process may be making room, too.
        with suppress(FileNotFoundError):
            found = file.stat()
            files.append((found.st_mtime_ns, found.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= most:
            return
        try:
            file.unlink(missing_ok=True)
        except PermissionError:
            # Windows keeps what another process has mapped.
            continue
        file.with_suffix(".json").unlink(missing_ok=True)
        total -= size
