"""What a frozen backbone makes of each image, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, DatasetError, EngineError, ExportError
from napari_cellclf.inference.engine import look_at_machine
from napari_cellclf.inference.prepare import in_order
from napari_cellclf.io.kept_arrays import ArrayCache, KeptArrays
from napari_cellclf.models.training.backbone import (
    Backbone,
    Compute,
    Way,
    fingerprint,
    ways_to_compute,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras
    from numpy.typing import NDArray

    from napari_cellclf.models.training.batches import Arrays

#: Features that were not used for longest go first when all together would take more, in bytes.
MOST_BYTES = 10 * 2**30
#: Images by which an engine is compared with Keras.
_COMPARED = 8
#: Batches that are read ahead.
_AHEAD = 2


def cached_features(
    backbone: keras.Model,
    arrays: Arrays,
    keys: Sequence[str],
    *,
    folder: Path,
    exact: bool = False,
    batch_size: int = 32,
    note: Callable[[str], None] = lambda message: None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> NDArray[np.float32]:
    """Send images through a backbone, but for those that went through it before.

    All features that are returned were computed in the same way: by the fastest engine that agrees
    with Keras on some of the images.

    `backbone`: images to features ``(N, F)``. Returns in order.
    """
    name = fingerprint(backbone)
    ways = ways_to_compute(look_at_machine(), exact=exact)
    caches = [ArrayCache(folder, _group(name, way), MOST_BYTES) for way in ways]
    for cache in caches:
        found = cache.find(keys)
        if not found.missing:
            on_progress(Progress(len(arrays), len(arrays), "features were computed before"))
            return _stacked(found)
    work = Backbone(backbone)
    for way, cache in zip(ways, caches, strict=True):
        found = cache.find(keys)
        if not found.missing:
            # Another process has just computed them, while one more way was tried here.
            return _stacked(found)
        try:
            compute, device = work.load(way, _some(arrays, found.missing))
        except (EngineError, ExportError) as error:
            note(f"{error}; another way is taken")
            continue
        note(f"features of the backbone are computed by {device}")
        _compute_missing(compute, arrays, found, cache, batch_size, on_progress, should_stop)
        break
    return _stacked(cache.find_all(keys))


def _group(backbone: str, way: Way) -> str:
    return hashlib.sha256(f"{backbone} {way.identity}".encode()).hexdigest()[:32]


def pixel_keys(arrays: Arrays) -> tuple[str, ...]:
    """Name images that are in memory after their pixels."""
    return tuple(_pixel_key(arrays[number]) for number in range(len(arrays)))


def _pixel_key(array: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _compute_missing(
    compute: Compute,
    arrays: Arrays,
    found: KeptArrays,
    cache: ArrayCache,
    batch_size: int,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> None:
    missing = found.missing
    done = len(arrays) - len(missing)
    try:
        with cache.adding(found) as adder:
            for numbers, batch in _batches(arrays, missing, batch_size):
                if should_stop():
                    raise CancelledError(f"stopped after the features of {done} images")
                for number, row in zip(numbers, compute(batch), strict=False):
                    adder.add(found.keys[number], row)
                done += len(numbers)
                on_progress(Progress(done, len(arrays), "computing features of the backbone"))
    except OSError as error:
        raise DatasetError(
            f"the features cannot be written to {cache.folder} ({error.strerror or error}); free "
            "some space, or set CELLCLF_CACHE to another folder"
        ) from error


def _batches(
    arrays: Arrays, numbers: list[int], batch_size: int
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Read full batches ahead of what computes them.

    What is missing in the last is filled up, and images of several sizes go one by one: what an
    image comes to must not depend on how many others were computed with it.
    """
    same = len({arrays[number].shape for number in numbers}) == 1
    size = batch_size if same else 1
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    with ThreadPoolExecutor(1, "cellclf-features") as thread:
        tasks = (partial(_full, arrays, part, size) for part in parts)
        yield from zip(parts, in_order(thread, tasks, _AHEAD), strict=True)


def _full(arrays: Arrays, numbers: list[int], size: int) -> NDArray[np.float32]:
    rows = [arrays[number] for number in numbers]
    return np.stack(rows + rows[-1:] * (size - len(rows)))


def _some(arrays: Arrays, numbers: list[int]) -> NDArray[np.float32]:
    """Take a few images of one size from all over those that are to be computed."""
    chosen = [arrays[number] for number in numbers[:: max(1, len(numbers) // _COMPARED)]]
    return np.stack([one for one in chosen if one.shape == chosen[0].shape][:_COMPARED])


def _stacked(found: KeptArrays) -> NDArray[np.float32]:
    return np.stack([found[number] for number in range(len(found))])
