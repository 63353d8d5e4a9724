"""Prepared images on disk: decoded, turned, resized and normalised once, then only mapped.

Each is kept under a key of its own, made from its files (path, size, time of change), its angle and
the preprocessing, so that another training finds those that it shares, whatever its split, and a
changed image is prepared again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from napari_cellclf.core.channels import reason_in_training
from napari_cellclf.core.image import rotate_image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
    watched,
)
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.errors import CancelledError, DatasetError, InputError
from napari_cellclf.io.array_cache import ArrayCache, KeptArrays
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image

T = TypeVar("T")
R = TypeVar("R")

#: Images that were not used for longest go first when all together would take more, in bytes.
MOST_BYTES = 50 * 2**30
#: Images that are decoded ahead of the one being written.
_AHEAD = 8
#: Images that stay decoded, since turns of one image follow one another.
_DECODED = 2

_FORMAT = 2


def prepare_images(
    items: Sequence[TurnedFile],
    preprocessing: Preprocessing,
    *,
    frame: Literal["keep", "grow"] = "keep",
    folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> KeptArrays:
    """Read, turn and prepare images, but for those that were prepared before.

    Returns ``(Y, X, C)`` float32 each, in the order of the items; its notes are the hashes of the
    pixels as they were read (`pixel_hashes`), separated by spaces. Images that cannot be read or
    prepared are in `bad`, and are tried again each time.
    """
    folder = cache_folder() / "prepared" if folder is None else folder
    keys = item_keys(items, preprocessing, frame)
    cache = ArrayCache(folder, way_key(preprocessing, frame), MOST_BYTES)
    found = cache.find(keys)
    missing = found.missing
    if not missing:
        on_progress(Progress(len(items), len(items), "images were prepared before"))
        return found
    before = len(items) - len(missing)
    prepare = _Preparer(preprocessing, frame, should_stop)
    bad: dict[str, str] = {}
    try:
        with cache.adding(found) as adder:
            prepared = ahead([items[number] for number in missing], prepare)
            for done, (number, one) in enumerate(zip(missing, prepared, strict=True), 1):
                if isinstance(one, str):
                    bad[keys[number]] = one
                else:
                    pixels, pixels_hash = one
                    if done == 1:
                        _check_room(folder, pixels.nbytes * len(missing))
                    adder.add(keys[number], pixels, pixels_hash)
                on_progress(Progress(before + done, len(items), "preparing images"))
                if should_stop():
                    raise CancelledError(
                        f"stopped after preparing {before + done} of {len(items)} images"
                    )
    except OSError as error:
        raise DatasetError(
            f"the prepared images cannot be written to {folder} ({error.strerror or error}); free "
            "some space, or set CELLCLF_CACHE to another folder"
        ) from error
    return cache.find_all(keys, bad)


class _Preparer:
    """Turns an item into pixels and the hash of its file's, or into the reason why not."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        frame: Literal["keep", "grow"],
        should_stop: ShouldStop = never_stop,
    ) -> None:
        self._preprocessing = preprocessing
        self._frame = frame
        self._should_stop = should_stop
        self._read = lru_cache(_DECODED)(_read_and_hash)

    def __call__(self, item: TurnedFile) -> tuple[NDArray[np.float32], str] | str:
        try:
            with watched(self._on_part):
                image, pixels_hash = self._read(item.path, item.naming)
                if item.degrees:
                    image = rotate_image(image, item.degrees, self._frame)
                return self._preprocessing(image), pixels_hash
        except InputError as error:
            return reason_in_training(error)

    def _on_part(self, what: str, fraction: float) -> None:
        if self._should_stop():
            raise CancelledError(f"stopped while {what} an image")


def _read_and_hash(path: str, naming: str | None) -> tuple[Image, str]:
    image = read_image(path, naming=naming)
    return image, " ".join(pixel_hashes(image))


def ahead(items: Iterable[T], prepare: Callable[[T], R]) -> Generator[R]:
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


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free * 0.95:
        raise DatasetError(
            f"the prepared images need {needed / 2**30:.1f} GiB in {folder}, where "
            f"{free / 2**30:.1f} GiB are free; free some space, set CELLCLF_CACHE to a larger "
            "disk, or choose a smaller size"
        )


@dataclass(frozen=True)
class TurnedFile:
    """One image as training sees it: a file, and by how much it is turned."""

    #: What `read_image` takes.
    path: str
    #: Counter-clockwise; 0 leaves the image as it is.
    degrees: float = 0.0
    #: How its file is named, as `read_image` takes it.
    naming: str | None = None


def way_key(preprocessing: Preprocessing, frame: str) -> str:
    """Name a way to prepare images."""
    made_by = f"{_FORMAT} {version('napari-cellclf')}"
    return _digest(f"{made_by}\n{preprocessing.model_dump_json()}\n{frame}")


def item_keys(
    items: Sequence[TurnedFile], preprocessing: Preprocessing, frame: str
) -> tuple[str, ...]:
    """Name prepared images after everything that their numbers depend on, each by itself."""
    way = way_key(preprocessing, frame)
    stamped = cache(_stamped)
    return tuple(
        _digest(f"{way}\n{item.degrees!r}{stamped(item.path, item.naming)}") for item in items
    )


def _stamped(path: str, naming: str | None) -> str:
    # Absolute: another folder may have a file of the same name, size and time.
    return "".join(f"\t{os.path.abspath(file)}\t{_stamp(file)}" for file in _files_of(path, naming))  # noqa: PTH100


def _files_of(path: str, naming: str | None) -> list[str]:
    named = named_image(Path(path), naming)
    return [path] if named is None else [str(file) for file in named.files.values()]


def _stamp(file: str) -> str:
    try:
        found = os.stat(file)  # noqa: PTH116 - half the time of Path.stat, for many files
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
