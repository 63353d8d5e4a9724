"""Look at every image of a data set, as training would read it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from napari_cellclf.core.channels import reason_in_training
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.dataset_report import DatasetReport, Duplicates, FileFindings, make_report
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import NamedObject, ObjectCrop, cut_of, position_text
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
        choices=_choices(dataset),
    )
    seen: list[_Seen] = []
    with closing(ahead(paths, look)) as looks:
        while len(seen) < len(paths):
            if should_stop():
                raise CancelledError(f"stopped after looking at {len(seen)} of {len(paths)} images")
            seen.append(next(looks))
            on_progress(Progress(len(seen), len(paths), "looking at the images"))
    return make_report(dataset, _findings(dataset, seen))


def _choices(dataset: Dataset) -> Mapping[str, Sequence[ObjectChoice]]:
    """Return the objects that rows are of, by image."""
    named: dict[tuple[str, str | None], list[NamedObject]] = {}
    for path, mask, one in zip(dataset.paths, dataset.masks, dataset.objects, strict=True):
        if one is not None:
            named.setdefault((path, mask), []).append(one)
    found: dict[str, list[ObjectChoice]] = {}
    for (path, mask), some in named.items():
        found.setdefault(path, []).append(ObjectChoice(mask, tuple(some)))
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
    """What was seen of an image."""

    path: str
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
    choices: Mapping[str, Sequence[ObjectChoice]],
) -> _Seen:
    try:
        image = read_image(path, naming=naming)
    except InputError as error:
        return _Seen(path, str(error))
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
        path,
        reason,
        f"{sizes['Y']}x{sizes['X']}",
        str(image.dtype),
        _channels(image),
        several if image.n_planes > 1 else "",
        pixel_hashes(image) if image.n_planes == 1 else (),
        tuple(bad for choice in choices.get(path, ()) for bad in _bad_objects(path, image, choice)),
    )


def _bad_objects(path: str, image: Image, choice: ObjectChoice) -> Iterator[tuple[str, str]]:
    """Find the objects that cannot be cut out, whatever the rule."""
    named = choice.chosen or ()
    try:
        objects = choice.add_to(image).find_objects()
    except InputError as error:
        yield from ((path + position_text({}, one.number), str(error)) for one in named)
        return
    for one in objects:
        try:
            cut_of(ObjectCrop(side=1), one, image.height_width, image.pixel_size, path)
        except InputError as error:
            yield path + position_text({}, one.number), str(error)


def _findings(dataset: Dataset, seen: Sequence[_Seen]) -> FileFindings:
    decoded = [one for one in seen if one.shape]
    same: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in decoded:
        if one.hashes:
            same[one.hashes].append(one.path)
    return FileFindings(
        tuple(
            bad
            for one in seen
            for bad in ([(one.path, one.reason)] if one.reason else one.bad_objects)
        ),
        _duplicates(dataset, same.values()),
        _most_frequent(one.shape for one in decoded),
        _most_frequent(one.dtype for one in decoded),
        _most_frequent(one.channels for one in decoded),
        {one.path: one.planes for one in decoded if one.planes},
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
        pairs = dict.fromkeys(zip(table["path"], table["split"], strict=True))
        named = [(path, "", split) for path, split in pairs]
        same = [*same, *_named_again(dataset, rows)]
    else:
        named = list(zip(table["path"], table["label"], table["split"], strict=True))
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
