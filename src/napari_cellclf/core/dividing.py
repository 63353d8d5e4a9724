"""How a data set is split: which column, which groups, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.classes import natural_key
from napari_cellclf.core.dataset import SPLITS, Dataset
from napari_cellclf.core.grouping import group_keys
from napari_cellclf.core.splitting import split_groups, split_random
from napari_cellclf.errors import DatasetError, LeakageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def divide(
    data: Dataset,
    by: str | None,
    *,
    fractions: Sequence[float],
    seed: int,
    allow_leakage: bool,
) -> Dataset:
    """Do what `Dataset.split` says."""
    _check_fractions(fractions)
    if not len(data):
        raise DatasetError("the data set holds no images; read a folder or a table that does")
    if by == "given":
        return _as_given(data, allow_leakage)
    if by == "random" or (by is None and data.group_column is None):
        parts = split_random(data.labels, fractions, seed)
        result = data.with_splits(_names(parts), leakage_allowed=allow_leakage)
        result.check_leakage()
        return result
    data = _grouped_by(data, by)
    groups = _numbers(data.groups)
    parts = split_groups(data.labels, groups, fractions, seed)
    _check_held_out(data, groups, parts, fractions)
    return data.with_splits(_names(parts), leakage_allowed=allow_leakage)


def hold_out_each(
    data: Dataset, by: str | None, *, validation: float | None, seed: int
) -> list[tuple[str, Dataset]]:
    """Do what `Dataset.leave_one_group_out` says."""
    data = _grouped_by(data, by)
    names = sorted(set(data.groups), key=natural_key)
    if len(names) < 2:
        raise DatasetError(
            f"all images are of one group ({data.group_column}: {', '.join(names)}), which cannot "
            "be left out; choose another column"
        )
    held_out = [(name, data.groups == name) for name in names]
    return [(name, _with_test(data, test, validation, seed)) for name, test in held_out]


def folds(
    data: Dataset, k: int, by: str | None, *, validation: float | None, seed: int
) -> list[Dataset]:
    """Do what `Dataset.k_fold` says."""
    if by == "random" or (by is None and data.group_column is None):
        if data.group_column is not None:
            raise LeakageError(
                f"random folds would put images of one group ({data.group_column}) on both sides; "
                "leave out by, or name the column to keep together"
            )
        groups = np.arange(len(data))
    else:
        data = _grouped_by(data, by)
        groups = _numbers(data.groups)
    n_groups = len(set(groups.tolist()))
    if not 2 <= k <= n_groups:
        raise DatasetError(
            f"{k} folds cannot be made of {n_groups} groups; choose between 2 and {n_groups}"
        )
    fractions = [1 / k] * k
    if data.group_column is None:
        parts = _deal(data.labels, k, seed)
    else:
        parts = split_groups(data.labels, groups, fractions, seed, cover_first=False)
    return [_with_test(data, parts == fold, validation, seed) for fold in range(k)]


def carve_validation(data: Dataset, fraction: float, seed: int) -> Dataset:
    """Do what `Dataset.with_validation` says."""
    if not 0 < fraction < 1:
        raise DatasetError(f"a part of {fraction} cannot validate; give one between 0 and 1")
    splits = data.table["split"].to_numpy(object).copy()
    rows = np.flatnonzero(splits == "train")
    if "validation" in splits or not len(rows):
        return data
    labels, shares = data.labels[rows], (1 - fraction, fraction)
    if data.group_column is None:
        parts = split_random(labels, shares, seed)
    else:
        parts = split_groups(labels, _numbers(data.groups[rows]), shares, seed)
    splits[rows[parts == 1]] = "validation"
    return data.with_splits(splits)


def _with_test(
    data: Dataset, test: NDArray[np.bool_], validation: float | None, seed: int
) -> Dataset:
    divided = data.with_splits(np.where(test, "test", "train"), leakage_allowed=False)
    return divided if validation is None else divided.with_validation(validation, seed=seed)


def _as_given(data: Dataset, allow_leakage: bool) -> Dataset:
    if not (data.table["split"] == "train").any():
        raise DatasetError(
            "the images come without a given split; name one in a column 'split' (train, "
            "validation, test), or split them by a column or at random"
        )
    result = replace(data, leakage_allowed=allow_leakage)
    result.check_leakage()
    return result


def _grouped_by(data: Dataset, by: str | None) -> Dataset:
    """Make a column the group of a data set, unless it is already."""
    if by is None or by == data.group_column:
        if data.group_column is None:
            raise DatasetError(
                "no group of these images is known; name the column to keep together"
            )
        return data
    group_keys(data.table, by)
    return replace(data, group_column=by, group_reason=f"the group was chosen: {by}")


def _check_fractions(fractions: Sequence[float]) -> None:
    good = len(fractions) == len(SPLITS) and all(0 <= part <= 1 for part in fractions)
    if not good or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        given = ", ".join(f"{part:g}" for part in fractions)
        raise DatasetError(
            f"the fractions {given} are not those of training, validation and test; give three "
            "that sum to 1, the first above 0, such as 0.7, 0.15 and 0.15"
        )


def _check_held_out(
    data: Dataset, groups: NDArray[np.int64], parts: NDArray[np.int64], fractions: Sequence[float]
) -> None:
    """Refuse a split without a test, or without validation where that was all that was asked."""
    last = 2 if fractions[2] > 0 else 1
    if fractions[last] <= 0 or (parts == last).any():
        return
    names = sorted(set(data.groups), key=natural_key)
    if len(names) < 2:
        raise DatasetError(
            f"all images are of one group ({data.group_column}: {', '.join(names)}), so that none "
            "can be held out; group them by another column, or split at random"
        )
    alone = [
        name
        for number, name in enumerate(data.class_names)
        if len(set(groups[data.labels == number].tolist())) == 1
    ]
    raise DatasetError(
        f"no group ({data.group_column}) can be held out, since some classes are in one group only "
        f"({', '.join(alone[:5])}) and would not be trained; group the images by another column"
    )


def _names(parts: NDArray[np.int64]) -> NDArray[Any]:
    return np.array(SPLITS, object)[parts]


def _numbers(groups: NDArray[np.object_]) -> NDArray[np.int64]:
    """Give groups numbers in natural order, whatever the order of the rows."""
    order = {name: number for number, name in enumerate(sorted(set(groups), key=natural_key))}
    return np.array([order[name] for name in groups], np.int64)


def _deal(labels: NDArray[np.int64], k: int, seed: int) -> NDArray[np.int64]:
    """Deal out the images of each class in turn, going on where the last class ended."""
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    rows = np.concatenate(by_class)
    parts = np.empty(len(labels), np.int64)
    parts[rows] = np.arange(len(rows)) % k
    return parts
