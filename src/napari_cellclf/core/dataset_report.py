"""What a look at all files of a data set found, and what of it stands in the way of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_cellclf.core.dataset import SPLITS, Dataset
from napari_cellclf.core.dataset_files import Duplicates, FileFindings
from napari_cellclf.core.dataset_warnings import find_warnings
from napari_cellclf.errors import DatasetError

#: More unreadable files than this part of all is no accident.
MOST_BAD = 0.01
_MOST_NAMED = 5


@dataclass(frozen=True)
class DatasetReport:
    """What is in a data set, and what to look at before training on it."""

    #: Rows; a site of RxRx1 is one.
    n_images: int
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
        """Images whose files hold the same bytes, contradictory ones first."""
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
    bad = {path for path, _ in files.unreadable}
    labels = [
        label
        for path, label in zip(dataset.paths, dataset.table["label"], strict=True)
        if path in bad
    ]
    counts = {
        str(name): {str(split): int(number) for split, number in row.items()}
        for name, row in dataset.counts().iterrows()
    }
    groups, group_splits = _count_groups(dataset)
    return DatasetReport(
        n_images=len(dataset),
        source=dataset.source,
        counts=counts,
        group_column=dataset.group_column,
        group_reason=dataset.group_reason,
        groups=groups,
        group_splits=group_splits,
        leaks=dataset.leaks(),
        leakage_allowed=dataset.leakage_allowed,
        files=files,
        warnings=tuple(find_warnings(dataset, files, counts)),
        bad_by_class={name: labels.count(name) for name in counts if name in labels},
    )


def check_bad_files(report: DatasetReport, most: float = MOST_BAD) -> None:
    """Refuse a data set of which too much cannot be read."""
    n_bad = len(report.unreadable)
    if not n_bad:
        return
    path, reason = report.unreadable[0]
    lost = [name for name, bad in report.bad_by_class.items() if bad >= report.per_class[name]]
    first = reason if path in reason else f"{path}: {reason}"
    if lost:
        raise DatasetError(
            f"no image of {', '.join(lost[:_MOST_NAMED])} can be read (the first of {n_bad} that "
            f"cannot: {first}); mend these files or remove the class"
        )
    if n_bad > most * report.n_images:
        raise DatasetError(
            f"{n_bad} of {report.n_images} images cannot be read, more than {most:.0%} (the first: "
            f"{first}); mend them or take them out"
        )


def without_bad_files(dataset: Dataset, report: DatasetReport) -> Dataset:
    """Leave out what cannot be read."""
    bad = {path for path, _ in report.unreadable}
    return dataset.subset(np.array([path not in bad for path in dataset.paths], bool))


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
