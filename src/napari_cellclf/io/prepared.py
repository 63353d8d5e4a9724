"""Prepared images on disk: decoded, turned, resized and normalised once, then only mapped.

Each is kept under a key of its own, made from its files (path, size, time of change), its angle and
the preprocessing, so that another training finds those that it shares, whatever its split, and a
changed image is prepared again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Literal, TypeVar

from napari_cellclf.core.channels import reason_in_training
from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import rotate_image
from napari_cellclf.core.objects import position_text
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
from napari_cellclf.io.masks import ObjectChoice, numbered_objects, pick, read_mask
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.objects import ImageObject, Plane

T = TypeVar("T")
R = TypeVar("R")

#: Images that were not used for longest go first when all together would take more, in bytes.
MOST_BYTES = 50 * 2**30
#: Images that are decoded ahead of the one being written.
_AHEAD = 8
#: Objects of one image that a thread prepares at a time.
_OBJECTS_AT_ONCE = 256
#: Planes of one stack, which are larger.
_AT_ONCE = 16
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
    with cache.adding(found) as adder:
        together = _together([items[number] for number in missing])
        prepared = (one for some in ahead(together, prepare) for one in some)
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
                    f"stopped after preparing {before + done} of {counted(len(items), 'image')}"
                )
    made = cache.find_all(keys, bad)
    made.damaged = found.damaged
    return made


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
        self._read_stack = lru_cache(_DECODED)(_read)
        self._read = lru_cache(_DECODED)(self._read_and_hash)
        self._read_objects = lru_cache(_DECODED)(self._read_with_objects)
        self._read_mask = lru_cache(_DECODED)(read_mask)
        self._reading = RLock()

    def __call__(self, items: Sequence[TurnedFile]) -> list[tuple[NDArray[np.float32], str] | str]:
        """Prepare items of one file and mask, one after the other."""
        with watched(self._on_part):
            if items[0].choice is not None:
                return self._of_objects(items)
            if items[0].plane:
                return self._planes(items)
            return [self._turned(item, self._read) for item in items]

    def _planes(self, items: Sequence[TurnedFile]) -> list[tuple[NDArray[np.float32], str] | str]:
        try:
            # Held here: the stacks of other threads may push it out of what stays decoded.
            stack = self._stack(items[0].path, items[0].naming)
        except InputError as error:
            return [reason_in_training(error)] * len(items)
        return [
            self._turned(item, lambda _path, _naming, plane: _hashed(stack.plane(dict(plane))))
            for item in items
        ]

    def _turned(
        self, item: TurnedFile, read: Callable[[str, str | None, Plane], tuple[Image, str]]
    ) -> tuple[NDArray[np.float32], str] | str:
        try:
            image, pixels_hash = read(item.path, item.naming, item.plane)
            if item.degrees:
                image = rotate_image(image, item.degrees, self._frame)
            return self._preprocessing(image), pixels_hash
        except InputError as error:
            return reason_in_training(error)

    def _of_objects(
        self, items: Sequence[TurnedFile]
    ) -> list[tuple[NDArray[np.float32], str] | str]:
        try:
            choices = [item.choice for item in items if item.choice is not None]
            # The next objects of the same image wait for it rather than decode it, too.
            with self._reading:
                image, pixels_hash, numbered = self._read_objects(
                    items[0].path, items[0].naming, choices[0].mask, items[0].plane
                )
            found = pick(numbered, (one for choice in choices for one in choice.chosen or ()))
        except InputError as error:
            return [reason_in_training(error)] * len(items)
        return [self._object(image, one, pixels_hash) for one in found]

    def _object(
        self, image: Image, one: ImageObject, pixels_hash: str
    ) -> tuple[NDArray[np.float32], str] | str:
        try:
            return self._preprocessing(image, region=one), pixels_hash
        except InputError as error:
            return reason_in_training(error)

    def _read_and_hash(self, path: str, naming: str | None, plane: Plane) -> tuple[Image, str]:
        return _hashed(
            self._stack(path, naming).plane(dict(plane)) if plane else _read(path, naming)
        )

    def _stack(self, path: str, naming: str | None) -> Image:
        # Threads that want other planes of it wait for it, too.
        with self._reading:
            return self._read_stack(path, naming)

    def _read_with_objects(
        self, path: str, naming: str | None, mask: str | None, plane: Plane
    ) -> tuple[Image, str, dict[int, ImageObject]]:
        image, pixels_hash = self._read_and_hash(path, naming, plane)
        whole = self._stack(path, naming) if plane else image
        return image, pixels_hash, numbered_objects(mask, whole, plane, self._read_mask)

    def _on_part(self, what: str, fraction: float) -> None:
        if self._should_stop():
            raise CancelledError(f"stopped while {what} an image")


def _together(items: Sequence[TurnedFile]) -> Iterator[list[TurnedFile]]:
    """Put together what follows one another in one image: its objects, or planes of a stack."""
    for _, group in groupby(enumerate(items), key=lambda one: _place(*one)):
        some = [item for _, item in group]
        step = _AT_ONCE if some[0].choice is None else _OBJECTS_AT_ONCE
        for first in range(0, len(some), step):
            yield some[first : first + step]


def _place(number: int, item: TurnedFile) -> tuple[int, str, str | None, Plane]:
    if item.choice is None:
        return (-1, item.path, None, ()) if item.plane else (number, "", None, ())
    return -1, item.path, item.choice.mask, item.plane


def _hashed(image: Image) -> tuple[Image, str]:
    return image, " ".join(pixel_hashes(image))


def _read(path: str, naming: str | None) -> Image:
    return read_image(path, naming=naming)


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
            f"the prepared images need {needed / 2**20:.0f} MiB in {folder}, where "
            f"{free / 2**20:.0f} MiB are free; free some space, set CELLCLF_CACHE to a larger "
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
    #: The object of it that is meant, if it is not the whole image.
    choice: ObjectChoice | None = None
    #: The plane that is meant, or that the object is in, if it is a stack.
    plane: Plane = ()


def items_of(dataset: Dataset, rotations: Sequence[float] = ()) -> list[TurnedFile]:
    """List what is prepared of a data set: each row, and each again by every fixed rotation."""
    choices = choices_of(dataset)
    return [
        TurnedFile(path, degrees, dataset.naming, choice, plane)
        for path, choice, plane in zip(dataset.paths, choices, dataset.planes, strict=True)
        for degrees in (0.0, *rotations)
    ]


def choices_of(dataset: Dataset) -> list[ObjectChoice | None]:
    """Return the object of each row, for whoever reads its image; None for whole images."""
    return [
        None if one is None else ObjectChoice(mask, (one,))
        for mask, one in zip(dataset.masks, dataset.objects, strict=True)
    ]


def way_key(preprocessing: Preprocessing, frame: str) -> str:
    """Name a way to prepare images."""
    made_by = f"{_FORMAT} {version('napari-cellclf')}"
    return _digest(f"{made_by}\n{preprocessing.model_dump_json()}\n{frame}")


def item_keys(
    items: Sequence[TurnedFile], preprocessing: Preprocessing, frame: str
) -> tuple[str, ...]:
    """Name prepared images after everything that their numbers depend on, each by itself."""
    way = way_key(preprocessing, frame)
    stamped, of_mask = cache(file_stamp), cache(_stamp)
    return tuple(
        _digest(
            f"{way}\n{item.degrees!r}{stamped(item.path, item.naming)}"
            f"{_object_text(item, of_mask)}{position_text(dict(item.plane))}"
        )
        for item in items
    )


def _object_text(item: TurnedFile, of_mask: Callable[[str], str]) -> str:
    if item.choice is None:
        return ""
    mask = item.choice.mask
    where = "" if mask is None else f"{os.path.abspath(mask)}\t{of_mask(mask)}"  # noqa: PTH100
    named = [(one.number, one.centre) for one in item.choice.chosen or ()]
    return f"\t{where}\t{named!r}"


def file_stamp(path: str, naming: str | None) -> str:
    """Name the state of the files of an image: another one if any of them has changed."""
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
