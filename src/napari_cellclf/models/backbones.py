"""A backbone: a frozen network that turns the rows of a collection into features.

This imports no Keras: the network runs in a child process (`models/backbone_child.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_cellclf.bundles.backbone_files import (
    backbone_entries,
    file_of,
    find_backbone,
    keep_backbone,
    list_backbones,
    read_file,
)
from napari_cellclf.bundles.backbone_graph import layout_of
from napari_cellclf.bundles.schema import BackboneSpec, JsonScalar
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
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import (
    ArchitectureError,
    BundleError,
    CancelledError,
    CellclfError,
    InputError,
    IntegrityError,
)
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.io.array_cache import ArrayCache, KeptArrays
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.dataset_channels import channel_spec
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.prepared import ahead, file_stamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.channels import ChannelSpec
    from napari_cellclf.core.collection import Collection, Row
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.normalization import Normalization
    from napari_cellclf.core.objects import ObjectCrop

CHILD = "napari_cellclf.models.backbone_child"
DEFAULT_BACKBONE = "efficientnet-lite0"
#: What its architecture is built with: roots of the features, and its pretrained weights.
PARAMETERS: dict[str, JsonScalar | list[JsonScalar]] = {"square_root": True}
#: What the authors of its weights did to photographs.
PHOTOGRAPHS = ImageNet(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
#: As its authors evaluated it: 7/8 of height and width, at the size that it was trained with.
_SIZE, _CENTRE = (224, 224), 0.875
_RGB = ("red", "green", "blue")
_MOST_BYTES = 10 * 2**30
_BATCH = 32
_FORMAT = 2


class Backbone(BaseModel):
    """A frozen network, however it is stored, and how its input is made of a row.

    It is a registered architecture with pretrained weights, or a network in an ONNX file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocessing: Preprocessing
    #: In the registry; the one that comes with this package unless another is chosen.
    architecture: str = DEFAULT_BACKBONE
    #: What it is built with, and where its weights come from; None for random ones.
    parameters: dict[str, JsonScalar | list[JsonScalar]] = dict(PARAMETERS)
    weights: str | None = "imagenet"
    #: The file that is the network instead.
    file: BackboneSpec | None = None

    @property
    def name(self) -> str:
        """Which network it is."""
        return self.architecture if self.file is None else self.file.name

    @property
    def key(self) -> str:
        """What features depend on, besides the rows."""
        said = self.model_dump_json()
        return _digest(f"{_FORMAT} {version('napari-cellclf')} {said}")


def default_backbone(
    image: Image,
    object_crop: ObjectCrop | None = None,
    name: str = DEFAULT_BACKBONE,
    *,
    weights: str | None = "imagenet",
    **parameters: JsonScalar | list[JsonScalar],
) -> Backbone:
    """Choose how a pretrained network looks at images like this one.

    Colour images in 8 bits are photographs to it. All others are brought to zero mean and unit
    variance, and each of their channels has its own input, or is looked at by itself.

    `name`: of an ONNX file that was added (`add_backbone`), or of an architecture with pretrained
    weights, which imports Keras unless it is the default one. `weights`, `parameters`: of an
    architecture.
    """
    names = [one or f"channel {number}" for number, one in enumerate(image.channels, 1)]
    specs = tuple(channel_spec("image" if len(names) == 1 else one) for one in names)
    is_photograph = tuple(names) == _RGB and np.dtype(image.dtype) == np.uint8
    size, photographs, how = _look_up(name, specs, weights, parameters)
    takes_them = is_photograph and photographs is not None
    normalization = photographs if takes_them else ZeroMeanUnitVariance()
    return Backbone(
        preprocessing=Preprocessing(
            channels=specs,
            centre=_CENTRE if object_crop is None else 1.0,
            size=size,
            normalization=normalization,
            object_crop=object_crop,
        ),
        **how,
    )


def _look_up(
    name: str,
    channels: tuple[ChannelSpec, ...],
    weights: str | None,
    parameters: dict[str, JsonScalar | list[JsonScalar]],
) -> tuple[tuple[int, int], Normalization | None, dict[str, Any]]:
    """Find a network by its name: size of its images, what it does to photographs, the rest."""
    if name == DEFAULT_BACKBONE:
        # Without Keras.
        return _SIZE, PHOTOGRAPHS, {"weights": weights, "parameters": PARAMETERS | parameters}
    from napari_cellclf.models.architectures import registry

    here = {spec.name: spec for spec in list_backbones()}
    try:
        known = name not in here and registry.canonical_name(name)
    except ArchitectureError:
        known = False
    if not known:
        spec = here.get(name) or find_backbone(name)
        return spec.size, spec.photographs, {"file": spec}
    architecture = registry.find_architecture(known)
    if architecture.pretrained is None:
        raise ArchitectureError(
            f"{known} has no pretrained weights, so that it is no backbone; choose another"
        )
    settled = registry.default_preprocessing(known, channels, weights=weights)
    # The head that follows the features has one layer, and a preset is written out.
    one_layer = {"hidden_units": None} if "hidden_units" in architecture.parameters() else {}
    parameters = dict(architecture.settle(one_layer | parameters))
    how = {"architecture": known, "weights": weights, "parameters": parameters}
    return settled.size or _SIZE, settled.normalization, how


def add_backbone(
    path: str | Path,
    name: str,
    *,
    size: tuple[int, int] | None = None,
    output: str = "",
    one_channel: bool | None = None,
    photographs: ImageNet | None = None,
    title: str = "",
    licence: str = "",
    source: str = "",
    should_stop: ShouldStop = never_stop,
) -> BackboneSpec:
    """Add an ONNX file as a backbone, checked and tried, under the hash of its bytes.

    Parameters
    ----------
    path : str or Path
        The file. It takes ``(N, C, Y, X)`` or ``(N, Y, X, C)`` with any N, and gives features, a
        map of features, or tokens of which the first is taken.
    name : str
        What to call it. Of a backbone in a list of models, the list says what is left out here.
    size : tuple of int, optional
        Height and width that it was trained with, for a file that takes any.
    output : str
        Name of the output to take; the first one if empty.
    one_channel : bool, optional
        Whether each channel is given to it by itself.
    photographs : ImageNet, optional
        What was done to photographs that it was trained on; None for each image's own mean and
        variance.
    title, licence, source : str
        What it is, and where it comes from; kept in every model that is built on it.
    should_stop : callable
        Asked while it is tried.

    Returns
    -------
    BackboneSpec
        What is known of it.

    Raises
    ------
    ModelError
        If it is no such network, or holds anything but standard operators.
    """
    entry = backbone_entries().get(name)
    if entry is not None:
        size, output = size or entry.size, output or entry.output
        one_channel = entry.one_channel if one_channel is None else one_channel
        photographs = photographs or entry.photographs
        title, licence = title or entry.title, licence or entry.licence
        source = source or entry.uri
    place = expanded(path)
    content = read_file(place)
    digest = hashlib.sha256(content).hexdigest()
    if entry is not None and entry.sha256 not in (None, digest):
        raise IntegrityError(
            f"{place.name} is not the file that the list of models names {name} (its SHA-256 "
            f"is {digest}); get it again, or give another name"
        )
    layout = layout_of(content, place.name, size, output)
    try:
        spec = BackboneSpec(
            **asdict(layout),
            name=name,
            sha256=digest,
            title=title,
            source=source,
            licence=licence,
            one_channel=bool(one_channel),
            photographs=photographs,
        )
    except ValidationError as error:
        raise BundleError(f"{place.name} cannot be a backbone: {reason_of(error)}") from error
    was_here = file_of(spec).is_file()
    kept = keep_backbone(spec, content)
    try:
        _try(spec, should_stop)
    except CellclfError:
        kept.with_name(f"{name}.json").unlink(missing_ok=True)
        if not was_here:
            kept.unlink(missing_ok=True)
        raise
    return spec


def _try(spec: BackboneSpec, should_stop: ShouldStop) -> None:
    """Let a process of its own compute two images, together and each by itself."""
    channels = [{"name": f"channel {number}"} for number in range(1, spec.n_inputs + 1)]
    backbone = Backbone(preprocessing={"channels": channels, "size": spec.size}, file=spec)
    shape = (2, *spec.size, spec.n_inputs)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    engine = start_process(backbone)
    try:
        engine.wait_until_ready()
        if should_stop():
            raise CancelledError(f"stopped while {spec.name} was being tried")
        together = engine(images)
        alone = np.concatenate([engine(images[:1]), engine(images[1:])])
    finally:
        engine.close()
    near = 1e-3 * float(np.abs(alone).max())
    if not np.isfinite(together).all() or not np.abs(together - alone).max() <= near:
        raise BundleError(
            f"{spec.name} gives other features of two images together than of each alone; export "
            "it again for prediction, with a dynamic batch"
        )
    if np.abs(alone[0] - alone[1]).max() <= near:
        raise BundleError(
            f"{spec.name} gives the same features of two different images; name another output"
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
    #: Rows whose kept features had been damaged, and were computed again.
    damaged: int = 0


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
    keys = _row_keys(collection, backbone, should_stop)
    prepare = _Preparer(collection, backbone.preprocessing)
    return compute_features(
        backbone,
        keys,
        prepare,
        start=start,
        folder=folder,
        on_progress=on_progress,
        should_stop=should_stop,
    )


#: Prepared pixels, and the hashes of those that they were made of.
Prepared: TypeAlias = "tuple[NDArray[np.float32], str]"


def compute_features(
    backbone: Backbone,
    keys: Sequence[str],
    prepare: Callable[[int], Prepared | str],
    *,
    start: Start = start_process,
    folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> RowFeatures:
    """Compute the features of every row, but for those that are kept under their keys.

    `prepare`: from the number of a row to its pixels, or why there are none.
    """
    folder = cache_folder() / "features" if folder is None else folder
    cache = ArrayCache(folder, f"rows-{backbone.key}", _MOST_BYTES)
    found = cache.find(keys)
    damaged = found.damaged
    if found.missing:
        on_progress(Progress(len(keys) - len(found.missing), len(keys), "starting the network"))
        engine = start(backbone)
        try:
            bad = _compute_missing(engine, prepare, cache, found, on_progress, should_stop)
        finally:
            engine.close()
        found = cache.find_all(keys, bad)
    on_progress(Progress(len(keys), len(keys), "the features are ready"))
    width = max((shape[0] for shape in found.shapes if len(shape) == 1), default=1)
    features = np.full((len(keys), width), np.nan, np.float32)
    for number in range(len(keys)):
        if number not in found.bad:
            features[number] = found[number]
    hashes = tuple(tuple(note.split()) for note in found.notes)
    return RowFeatures(features, found.bad, hashes, damaged)


def _compute_missing(
    engine: ProcessEngine,
    prepare: Callable[[int], Prepared | str],
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
            good: list[tuple[int, Prepared]] = []
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


def _compute(engine: Any, good: Sequence[tuple[int, Prepared]]) -> NDArray[np.float32]:
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

    def __call__(self, number: int) -> Prepared | str:
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
