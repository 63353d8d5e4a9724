"""Look at every image of a data set, as training would read it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from napari_cellclf.core.channels import reason_in_training
from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.dataset_report import DatasetReport, Duplicates, FileFindings, make_report
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import NamedObject, ObjectCrop, Plane, cut_of, position_text
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.errors import AxesError, CancelledError, DatasetError, InputError
from napari_cellclf.io.dataset_channels import channel_spec, found_channels
from napari_cellclf.io.masks import ObjectChoice
from napari_cellclf.io.prepared import ahead
from napari_cellclf.io.read import read_image

_SAMPLES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}


def inspect_dataset(
    dataset: Dataset,
    *,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> DatasetReport:
    """Look at every image of a data set: what cannot be used, is twice there, or is odd.

    Every image is decoded and held against the channels that training would learn, so that what is
    found here is what training finds.
    """
    paths = list(dict.fromkeys(dataset.paths))
    look = partial(
        _look,
        naming=dataset.naming,
        preprocessing=_preprocessing(dataset, paths),
        planes=_planes(dataset),
        choices=_choices(dataset),
    )
    seen: list[_Seen] = []
    with closing(ahead(paths, look)) as looks:
        for done in range(len(paths)):
            if should_stop():
                raise CancelledError(
                    f"stopped after looking at {done} of {counted(len(paths), 'image')}"
                )
            seen += next(looks)
            on_progress(Progress(done + 1, len(paths), "looking at the images"))
    return make_report(dataset, _findings(dataset, seen))


def _planes(dataset: Dataset) -> Mapping[str, Sequence[Plane]]:
    """Return the planes that rows are of, by image; an empty one is all that its file holds."""
    found: dict[str, dict[Plane, None]] = {}
    for path, plane in zip(dataset.paths, dataset.planes, strict=True):
        found.setdefault(path, {})[plane] = None
    return {path: list(planes) for path, planes in found.items()}


def _choices(dataset: Dataset) -> Mapping[str, Sequence[ObjectChoice]]:
    """Return the objects that rows are of, by the name of their image or plane."""
    named: dict[tuple[str, str | None], list[NamedObject]] = {}
    for name, mask, one in zip(dataset.plane_ids, dataset.masks, dataset.objects, strict=True):
        if one is not None:
            named.setdefault((name, mask), []).append(one)
    found: dict[str, list[ObjectChoice]] = {}
    for (name, mask), some in named.items():
        found.setdefault(name, []).append(ObjectChoice(mask, tuple(some)))
    return found


def _preprocessing(dataset: Dataset, paths: Sequence[str]) -> Preprocessing | None:
    """Return what training would do to pixels unless it is told otherwise; None if it could not."""
    try:
        names, in_all = found_channels(dataset.train.paths or paths, dataset.naming)
    except DatasetError:
        return None
    return Preprocessing(
        channels=tuple(channel_spec(name, required=name in in_all) for name in names)
    )


@dataclass(frozen=True)
class _Seen:
    """What was seen of an image, or of a plane of it that rows are of."""

    #: Its path, and which plane it is.
    name: str
    #: Why it cannot be used; empty if it can.
    reason: str
    shape: str = ""
    dtype: str = ""
    channels: str = ""
    #: Axes with their sizes, if it has several planes.
    planes: str = ""
    #: Those of its pixels, if it is one plane.
    hashes: tuple[str, ...] = ()
    #: Objects that cannot be used, by the ids of their rows, and why.
    bad_objects: tuple[tuple[str, str], ...] = ()


def _look(
    path: str,
    *,
    naming: str | None,
    preprocessing: Preprocessing | None,
    planes: Mapping[str, Sequence[Plane]],
    choices: Mapping[str, Sequence[ObjectChoice]],
) -> list[_Seen]:
    named = [(plane, path + position_text(dict(plane))) for plane in planes[path]]
    try:
        whole = read_image(path, naming=naming)
    except InputError as error:
        return [_Seen(name, str(error)) for _, name in named]
    seen = []
    for plane, name in named:
        try:
            image = whole.plane(dict(plane)) if plane else whole
        except AxesError as error:
            seen.append(_Seen(name, str(error)))
            continue
        bad = [one for choice in choices.get(name, ()) for one in _bad_objects(path, whole, choice)]
        seen.append(_look_at(image, path, name, preprocessing, bad))
    return seen


def _look_at(
    image: Image,
    path: str,
    name: str,
    preprocessing: Preprocessing | None,
    bad_objects: Sequence[tuple[str, str]],
) -> _Seen:
    reason = ""
    try:
        if preprocessing is not None:
            preprocessing.unnormalized(image)
    except InputError as error:
        reason = reason_in_training(error)
        reason = reason if path in reason else f"{path}: {reason}"
    sizes = dict(zip(image.axes, image.shape, strict=True))
    several = " ".join(f"{axis}={size}" for axis, size in sizes.items() if axis not in "CS")
    return _Seen(
        name,
        reason,
        f"{sizes['Y']}x{sizes['X']}",
        str(image.dtype),
        _channels(image),
        several if image.n_planes > 1 else "",
        pixel_hashes(image) if image.n_planes == 1 else (),
        tuple(bad_objects),
    )


def _bad_objects(path: str, image: Image, choice: ObjectChoice) -> Iterator[tuple[str, str]]:
    """Find the objects of one plane that cannot be cut out, whatever the rule."""
    named = choice.chosen or ()
    index = dict(named[0].plane)
    try:
        objects = choice.add_to(image).plane(index).find_objects()
    except InputError as error:
        yield from ((path + position_text(index, one.number), str(error)) for one in named)
        return
    for one in objects:
        try:
            cut_of(ObjectCrop(side=1), one, image.height_width, image.pixel_size, path)
        except InputError as error:
            yield path + position_text(index, one.number), str(error)


def _findings(dataset: Dataset, seen: Sequence[_Seen]) -> FileFindings:
    decoded = [one for one in seen if one.shape]
    same: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in decoded:
        if one.hashes:
            same[one.hashes].append(one.name)
    return FileFindings(
        tuple(
            bad
            for one in seen
            for bad in ([(one.name, one.reason)] if one.reason else one.bad_objects)
        ),
        _duplicates(dataset, same.values()),
        _most_frequent(one.shape for one in decoded),
        _most_frequent(one.dtype for one in decoded),
        _most_frequent(one.channels for one in decoded),
        {one.name: one.planes for one in decoded if one.planes},
    )


def _channels(image: Image) -> str:
    """Name the channels of an image as far as it does."""
    if len(image.channels) > 1 and all(image.channels) and "S" not in image.axes:
        return " + ".join(map(_short, image.channels))
    if "S" in image.axes:
        samples = image.shape[image.axes.index("S")]
        return _SAMPLES.get(samples, f"{samples} samples")
    if image.n_channels == 1:
        return _short(image.channels[0]) or "grey"
    return f"{image.n_channels} channels"


def _short(channel: str) -> str:
    """Shorten the name of a channel of RxRx1, such as ``w1 Hoechst``; others need every word."""
    return re.sub(r"(w\d) .*", r"\1", channel)


def _duplicates(dataset: Dataset, same: Iterable[list[str]]) -> tuple[Duplicates, ...]:
    """Tell which rows are one image: copies, and one file that the table names several times."""
    rows: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    table = dataset.table
    # Objects of one image have labels of their own, but are on one side with a copy of it.
    if dataset.has_objects:
        pairs = dict.fromkeys(zip(dataset.plane_ids, table["split"], strict=True))
        named = [(path, "", split) for path, split in pairs]
        same = [*same, *_named_again(dataset, rows)]
    else:
        named = list(zip(dataset.plane_ids, table["label"], table["split"], strict=True))
    for path, label, split in named:
        rows[path].append((label, split))
    found = []
    for paths in same:
        images = [(path, *row) for path in paths for row in rows[path]]
        if len(images) > 1:
            found.append(Duplicates(*map(tuple, zip(*images, strict=True))))
    return tuple(sorted(found, key=lambda one: (not one.contradictory, not one.leaks, one.paths)))


def _named_again(
    dataset: Dataset, rows: defaultdict[str, list[tuple[str, str]]]
) -> Iterator[list[str]]:
    """Find objects that several rows name."""
    for name, label, split in zip(
        dataset.ids, dataset.table["label"], dataset.table["split"], strict=True
    ):
        rows[name].append((label, split))
    yield from ([name] for name in list(rows) if len(rows[name]) > 1)


def _most_frequent(found: Iterable[str]) -> Mapping[str, int]:
    return dict(Counter(found).most_common())
