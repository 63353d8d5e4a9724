"""What a look at the files of a data set found, and what stands in the way of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.errors import DatasetError

#: More unusable images than this fraction of a split is no accident.
MOST_BAD = 0.01
_MOST_NAMED = 5
# Class numbers that differ by this factor change what is learnt.
_IMBALANCE = 3.0
_FEW_IMAGES = 10
_FEW_GROUPS = 3
#: Columns whose values differ in how the images were taken.
_BATCHES = ("experiment", "date", "donor", "animal", "plate", "slide", "movie")


@dataclass(frozen=True)
class Duplicates:
    """Images of the same pixels."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]

    @property
    def contradictory(self) -> bool:
        """Whether one image is called two things."""
        return len(set(self.labels)) > 1

    @property
    def leaks(self) -> bool:
        """Whether one image is on both sides of the split."""
        return len(set(self.splits) - {""}) > 1


@dataclass(frozen=True)
class FileFindings:
    """What the files of a data set hold."""

    #: Path of each image that cannot be used, and the reason in one sentence.
    unreadable: tuple[tuple[str, str], ...] = ()
    #: Contradictory ones first, then those on both sides of the split.
    duplicates: tuple[Duplicates, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    #: Path of each image of several planes (times, depths), and its axes with their sizes.
    multi_plane: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetReport:
    """What is in a data set, and what to look at before training on it."""

    #: Rows; a site of RxRx1 is one.
    n_images: int
    #: What a row is: ``"image"`` or ``"object"``.
    noun: str
    #: What was read, in words.
    source: str
    #: Class to split (``"train"``, ``"validation"``, ``"test"``, ``"unsplit"``) to images.
    counts: Mapping[str, Mapping[str, int]]
    #: What images are kept together by.
    group_column: str | None
    #: Why.
    group_reason: str
    #: Group to class to images; empty if no group is known.
    groups: Mapping[str, Mapping[str, int]]
    #: Group to its split; several are joined by ``+``.
    group_splits: Mapping[str, str]
    #: Groups on both sides of the split.
    leaks: tuple[str, ...]
    #: Whether the user allowed that.
    leakage_allowed: bool
    #: What the files hold.
    files: FileFindings
    #: Sentences, the gravest first.
    warnings: tuple[str, ...]
    #: Class to images that cannot be used.
    bad_by_class: Mapping[str, int]

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Path and reason of each image that cannot be used."""
        return self.files.unreadable

    @property
    def duplicates(self) -> tuple[Duplicates, ...]:
        """Images of the same pixels, contradictory ones first."""
        return self.files.duplicates

    @property
    def per_class(self) -> dict[str, int]:
        """Images of each class."""
        return {name: sum(splits.values()) for name, splits in self.counts.items()}

    @property
    def imbalance(self) -> float:
        """How many times as many images the largest class has as the smallest one has."""
        sizes = [size for size in self.per_class.values() if size]
        return max(sizes) / min(sizes) if sizes else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON."""
        return asdict(self)


def make_report(dataset: Dataset, files: FileFindings) -> DatasetReport:
    """Put together what the table says and what the files hold."""
    bad = {name for name, _ in files.unreadable}
    labels = [
        label
        for plane, name, label in zip(
            dataset.plane_ids, dataset.ids, dataset.table["label"], strict=True
        )
        if plane in bad or name in bad
    ]
    counts = {
        str(name): {str(split): int(number) for split, number in row.items()}
        for name, row in dataset.counts().iterrows()
    }
    groups, group_splits = _count_groups(dataset)
    return DatasetReport(
        n_images=len(dataset),
        noun=dataset.noun,
        source=dataset.source,
        counts=counts,
        group_column=dataset.group_column,
        group_reason=dataset.group_reason,
        groups=groups,
        group_splits=group_splits,
        leaks=dataset.leaks(),
        leakage_allowed=dataset.leakage_allowed,
        files=files,
        warnings=tuple(_warnings(dataset, files, counts)),
        bad_by_class={name: labels.count(name) for name in counts if name in labels},
    )


def check_bad(split: Dataset, bad: Mapping[int, str]) -> None:
    """Refuse to train on images of which too many cannot be used.

    `bad`: row and reason of those.
    """
    if not bad:
        return
    row, reason = next(iter(bad.items()))
    path = split.paths[row]
    first = reason if path in reason else f"{split.ids[row]}: {reason}"
    if len(bad) > max(1, MOST_BAD * len(split)):
        raise DatasetError(
            f"{len(bad):,} of {counted(len(split), split.noun)} cannot be used ({first}); "
            "fix or remove them"
        )
    good = np.delete(split.labels, list(bad))
    lost = set(split.labels.tolist()) - set(good.tolist())
    if lost:
        names = ", ".join(split.class_names[label] for label in sorted(lost))
        raise DatasetError(
            f"no image of class {names} can be used ({first}); fix them, or leave the class out"
        )


def _about_bad(dataset: Dataset, files: FileFindings) -> str:
    """Foretell what training does about the images that it cannot use."""
    reasons = dict(files.unreadable)
    if not reasons:
        return ""
    splits = dataset.table["split"].to_numpy(object)
    for name in dict.fromkeys((*SPLITS, *splits)):
        part = dataset.subset(splits == name)
        rows = enumerate(zip(part.plane_ids, part.ids, strict=True))
        bad = {row: reasons.get(plane) or reasons.get(name) for row, (plane, name) in rows}
        try:
            check_bad(part, {row: reason for row, reason in bad.items() if reason})
        except DatasetError as error:
            where = f" in {name}" if name else ""
            return f"training would refuse these files{where}: {error}"
    return f"training would leave {counted(len(reasons), dataset.noun)} out"


def _count_groups(dataset: Dataset) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    if dataset.group_column is None:
        return {}, {}
    counts: dict[str, dict[str, int]] = {}
    splits: dict[str, set[str]] = {}
    rows = zip(dataset.groups, dataset.table["label"], dataset.table["split"], strict=True)
    for group, label, split in rows:
        of_group = counts.setdefault(group, {})
        of_group[label] = of_group.get(label, 0) + 1
        splits.setdefault(group, set()).add(split)
    order = (*SPLITS, "")
    named = {
        group: "+".join(split or "unsplit" for split in order if split in found)
        for group, found in splits.items()
    }
    return counts, named


def _warnings(
    dataset: Dataset, files: FileFindings, counts: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Say in words what to look at before training."""
    found = [
        *_about_duplicates(files),
        *_about_groups(dataset),
        *_about_files(len(dataset), dataset.noun, files),
        _about_bad(dataset, files),
        *_about_classes(counts, dataset.noun),
        *_about_batches(dataset),
    ]
    return [sentence for sentence in found if sentence]


def _about_duplicates(files: FileFindings) -> list[str]:
    contradictory = [one for one in files.duplicates if one.contradictory]
    leaking = [one for one in files.duplicates if one.leaks]
    said = []
    if contradictory:
        one = contradictory[0]
        images = counted(len(contradictory), "image is", "images are")
        said.append(
            f"{images} labelled in two ways, such as {one.paths[0]} ({one.labels[0]}) and its copy "
            f"{_other(one)}: one of the labels is wrong"
        )
    if leaking:
        said.append(
            f"{counted(len(leaking), 'image has a copy', 'images have copies')} on the other side "
            f"of the split, such as {leaking[0].paths[0]}: the result would look better than it is"
        )
    if files.duplicates:
        n_copies = sum(len(one.paths) - 1 for one in files.duplicates)
        said.append(f"{counted(n_copies, 'file is a copy', 'files are copies')} of another one")
    return said


def _other(one: Duplicates) -> str:
    number = next(n for n, label in enumerate(one.labels) if label != one.labels[0])
    return f"{one.paths[number]} ({one.labels[number]})"


def _about_groups(dataset: Dataset) -> list[str]:
    leaks = dataset.leaks()
    if leaks:
        allowed = "LEAKAGE ALLOWED" if dataset.leakage_allowed else "LEAKAGE"
        named = ", ".join(leaks[:_MOST_NAMED]) + (", ..." if len(leaks) > _MOST_NAMED else "")
        return [
            f"{allowed}: {counted(len(leaks), 'group has', 'groups have')} {dataset.noun}s on both "
            "sides of "
            f"the split ({dataset.group_column}: {named}), so that the result will look better "
            "than it is"
        ]
    if dataset.group_column is None:
        return [dataset.group_reason]
    n_groups = len(set(dataset.groups))
    if n_groups < _FEW_GROUPS:
        return [
            f"there {'is only one group' if n_groups == 1 else f'are only {n_groups} groups'} of "
            f"{dataset.group_column}: what is measured on so few says little of others"
        ]
    return []


def _about_files(n_images: int, noun: str, files: FileFindings) -> list[str]:
    said = []
    if files.unreadable:
        n_bad = len(files.unreadable)
        said.append(
            f"{counted(n_bad, noun)} of {n_images:,} cannot be used: {files.unreadable[0][1]}"
        )
    if files.multi_plane:
        path, axes = next(iter(files.multi_plane.items()))
        holding = counted(len(files.multi_plane), "file holds", "files hold")
        said.append(
            f"{holding} several planes, such as {path} ({axes}): say in a table which plane each "
            "label is of (columns t, z or plane)"
        )
    if len(files.dtypes) > 1:
        said.append(
            f"the images are of different types ({_tally(files.dtypes)}): their brightness may not "
            "be on the same scale"
        )
    if len(files.channels) > 1:
        said.append(
            f"the images have different channels ({_tally(files.channels)}): those that lack "
            "a channel of a name are trained without it, others must fit the first image"
        )
    said.append(_odd_sizes(files.shapes))
    return said


def _odd_sizes(shapes: Mapping[str, int]) -> str:
    """Tell of the few images of another size; where sizes differ throughout, that is no news."""
    total = sum(shapes.values())
    if len(shapes) < 2 or max(shapes.values()) < 0.8 * total:
        return ""
    (common, number), *others = sorted(shapes.items(), key=lambda item: -item[1])
    return (
        f"{counted(total - number, 'image is', 'images are')} of another size than {common} "
        f"({_tally(dict(others))})"
    )


def _about_classes(counts: Mapping[str, Mapping[str, int]], noun: str) -> list[str]:
    sizes = {name: sum(splits.values()) for name, splits in counts.items()}
    empty = [name for name, size in sizes.items() if not size]
    filled = {name: size for name, size in sizes.items() if size}
    said = []
    if empty:
        said.append(f"there is no {noun} of {_names(empty)}")
    for split in SPLITS:
        # A split that has no image at all is no fault of a class.
        absent = [name for name in filled if not counts[name][split]]
        if 0 < len(absent) < len(filled):
            said.append(f"no {split} {noun} of {_names(absent)}")
    few = [name for name, size in filled.items() if size < _FEW_IMAGES]
    if few:
        said.append(f"fewer than {_FEW_IMAGES} {noun}s of {_names(few)}")
    if len(filled) > 1:
        largest, smallest = max(filled, key=sizes.__getitem__), min(filled, key=sizes.__getitem__)
        ratio = sizes[largest] / sizes[smallest]
        if ratio >= _IMBALANCE:
            said.append(
                f"{largest} has {ratio:.3g} times as many {noun}s as {smallest}: weight the "
                "classes "
                "or show rare ones more often, and look at the balanced accuracy"
            )
    elif filled:
        said.append(f"there is only one class, {next(iter(filled))}: nothing can be told apart")
    return said


def _about_batches(dataset: Dataset) -> list[str]:
    for column in _BATCHES:
        if column not in dataset.table.columns:
            continue
        pairs = set(zip(dataset.table["label"], dataset.table[column], strict=True))
        labels, batches = {label for label, _ in pairs}, {batch for _, batch in pairs}
        if len(labels) > 1 and len(pairs) == len(labels) == len(batches):
            return [
                f"every class is of one {column} and every {column} of one class: what is learnt "
                f"may be the {column} (its light, its day) instead of the class"
            ]
    return []


def _names(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )


def _tally(numbers: Mapping[str, int]) -> str:
    return _names([f"{number} {name}" for name, number in numbers.items()])
