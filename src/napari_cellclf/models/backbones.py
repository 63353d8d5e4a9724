"""A backbone: a frozen network that turns the rows of a collection into features.

This imports no Keras: the network runs in a child process (`models/backbone_child.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict

from napari_cellclf.core.channels import reason_in_training
from napari_cellclf.core.counting import counted
from napari_cellclf.core.normalization import ImageNet, ZeroMeanUnitVariance
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.errors import CancelledError, DatasetError, InputError
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.io.array_cache import ArrayCache, KeptArrays
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.dataset_channels import channel_spec
from napari_cellclf.io.prepared import ahead, file_stamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.collection import Collection, Row
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.objects import ObjectCrop

CHILD = "napari_cellclf.models.backbone_child"
DEFAULT_BACKBONE = "efficientnet-lite0"
#: What its architecture is built with: roots of the features, and its pretrained weights.
PARAMETERS = {"square_root": True}
#: What the authors of its weights did to photographs.
PHOTOGRAPHS = ImageNet(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
#: As its authors evaluated it: 7/8 of height and width, at the size that it was trained with.
_SIZE, _CENTRE = (224, 224), 0.875
_RGB = ("red", "green", "blue")
_MOST_BYTES = 10 * 2**30
_BATCH = 32
_FORMAT = 1


class Backbone(BaseModel):
    """The pretrained network of this package, frozen, and how its input is made of a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocessing: Preprocessing

    @property
    def key(self) -> str:
        """What features depend on, besides the rows."""
        said = self.model_dump_json()
        return _digest(f"{_FORMAT} {version('napari-cellclf')} {PARAMETERS} {said}")


def default_backbone(image: Image, object_crop: ObjectCrop | None = None) -> Backbone:
    """Choose how the pretrained network looks at images like this one.

    Colour images in 8 bits are photographs to it. All others are brought to zero mean and unit
    variance, and each of their channels has its own input.
    """
    names = [name or f"channel {number}" for number, name in enumerate(image.channels, 1)]
    specs = tuple(channel_spec("image" if len(names) == 1 else name) for name in names)
    is_photograph = tuple(names) == _RGB and np.dtype(image.dtype) == np.uint8
    return Backbone(
        preprocessing=Preprocessing(
            channels=specs,
            centre=_CENTRE if object_crop is None else 1.0,
            size=_SIZE,
            normalization=PHOTOGRAPHS if is_photograph else ZeroMeanUnitVariance(),
            object_crop=object_crop,
        )
    )


@dataclass(frozen=True, eq=False)
class RowFeatures:
    """What a backbone made of the rows of a collection.

    `features`: ndarray, shape (N, F), float32; NaN for rows that are bad.
    """

    features: NDArray[np.float32]
    #: Why there are none, by the number of the row.
    bad: dict[int, str] = field(default_factory=dict)
    #: Those of the pixels of each row's plane (`pixel_hashes`).
    hashes: tuple[tuple[str, ...], ...] = ()


#: Starts what computes a backbone, and ends with `close`.
Start = Callable[[Backbone], ProcessEngine]


def start_process(backbone: Backbone) -> ProcessEngine:
    """Start the child process of a backbone; it is not ready yet."""
    return ProcessEngine(backbone.model_dump_json(), child=CHILD)


def row_features(
    collection: Collection,
    backbone: Backbone,
    *,
    start: Start = start_process,
    folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> RowFeatures:
    """Compute the features of every row, but for those that were computed before.

    Rows that cannot be read are in `bad`. What was computed is kept when it is stopped.
    """
    folder = cache_folder() / "features" if folder is None else folder
    keys = _row_keys(collection, backbone, should_stop)
    cache = ArrayCache(folder, f"rows-{backbone.key}", _MOST_BYTES)
    found = cache.find(keys)
    if found.missing:
        on_progress(Progress(len(keys) - len(found.missing), len(keys), "starting the network"))
        prepare = _Preparer(collection, backbone.preprocessing)
        engine = start(backbone)
        try:
            bad = _compute_missing(engine, prepare, cache, found, on_progress, should_stop)
        except OSError as error:
            raise DatasetError(
                f"the features cannot be written to {folder} ({error.strerror or error}); free "
                "some space, or set CELLCLF_CACHE to another folder"
            ) from error
        finally:
            engine.close()
        found = cache.find_all(keys, bad)
    on_progress(Progress(len(keys), len(keys), "the features are ready"))
    width = max((shape[0] for shape in found.shapes if len(shape) == 1), default=1)
    features = np.full((len(keys), width), np.nan, np.float32)
    for number in range(len(keys)):
        if number not in found.bad:
            features[number] = found[number]
    return RowFeatures(features, found.bad, tuple(tuple(note.split()) for note in found.notes))


#: Prepared pixels, and the hashes of those that they were made of.
_Prepared: TypeAlias = "tuple[NDArray[np.float32], str]"


def _compute_missing(
    engine: ProcessEngine,
    prepare: _Preparer,
    cache: ArrayCache,
    found: KeptArrays,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> dict[str, str]:
    """Compute what is missing and keep it; returns why rows are bad, by their keys."""
    bad: dict[str, str] = {}
    missing, total = found.missing, len(found)
    done = total - len(missing)
    # While the first images are prepared, the network is started.
    with closing(ahead(missing, prepare)) as rows, cache.adding(found) as adder:
        engine.wait_until_ready()
        for first in range(0, len(missing), _BATCH):
            good: list[tuple[int, _Prepared]] = []
            for number in missing[first : first + _BATCH]:
                if should_stop():
                    raise CancelledError(f"stopped after {done} of {counted(total, 'image')}")
                one = next(rows)
                if isinstance(one, str):
                    bad[found.keys[number]] = one
                else:
                    good.append((number, one))
            for (number, one), features in zip(good, _compute(engine, good), strict=True):
                adder.add(found.keys[number], features, one[1])
            done = total - len(missing) + min(first + _BATCH, len(missing))
            on_progress(Progress(done, total, "computing features"))
    return bad


def _compute(engine: Any, good: Sequence[tuple[int, _Prepared]]) -> NDArray[np.float32]:
    """Compute one batch, images of one size together."""
    arrays = [one[0] for _, one in good]
    if len({array.shape for array in arrays}) > 1:
        return np.concatenate([engine(array[np.newaxis]) for array in arrays])
    return engine(np.stack(arrays)) if arrays else np.zeros((0, 1), np.float32)


class _Preparer:
    """Reads a row and prepares it, or says why not."""

    def __init__(self, collection: Collection, preprocessing: Preprocessing) -> None:
        self._collection = collection
        self._preprocessing = preprocessing
        self._hashes: dict[tuple[object, object], str] = {}

    def __call__(self, number: int) -> _Prepared | str:
        row = self._collection.rows[number]
        try:
            image = self._collection.read(number)
            pixels = self._preprocessing(image, region=row.object)
            return pixels, self._hash(row, image)
        except InputError as error:
            return reason_in_training(error)
        except OSError as error:
            return f"{row.source} cannot be read ({error.strerror or error}); check the file"
        except MemoryError:
            return f"{row.source} needs more memory than is free; close other programs"

    def _hash(self, row: Row, image: Image) -> str:
        """Hash the pixels of a plane, once for all objects in it."""
        key = row.source, row.plane
        if key not in self._hashes:
            self._hashes[key] = " ".join(pixel_hashes(image))
        return self._hashes[key]


def _row_keys(
    collection: Collection, backbone: Backbone, should_stop: ShouldStop
) -> tuple[str, ...]:
    """Name the features of each row after everything that they depend on."""
    states: dict[tuple[object, object], str] = {}
    keys = []
    way = backbone.key
    for number, row in enumerate(collection.rows):
        if should_stop():
            raise CancelledError("stopped before the first image")
        plane = row.source, row.plane
        if plane not in states:
            is_file = Path(row.source).is_file()
            # Of a layer, nothing but its pixels says whether it is still the same.
            states[plane] = (
                file_stamp(row.source, None) if is_file else _pixels(collection.read(number))
            )
        keys.append(_digest(f"{way} {row.id} {states[plane]} {_object_text(row)}"))
    return tuple(keys)


def _pixels(image: Image) -> str:
    return hashlib.sha256(np.ascontiguousarray(image.data).data).hexdigest()


def _object_text(row: Row) -> str:
    one = row.object
    if one is None:
        return ""
    mask = "" if one.mask is None else hashlib.sha256(np.packbits(one.mask).data).hexdigest()
    return json.dumps([one.number, one.centre, one.box, mask])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
