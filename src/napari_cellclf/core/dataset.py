"""Labelled images, or objects of images, as one table, and how they are divided for training."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.classes import ClassSpec, natural_key
from napari_cellclf.core.counting import counted
from napari_cellclf.core.grouping import group_keys
from napari_cellclf.core.objects import NamedObject, Plane, plane_from_text, position_text
from napari_cellclf.core.splitting import (
    SPLITS,
    check_fractions,
    deal,
    split_groups,
    split_random,
)
from napari_cellclf.errors import DatasetError, LeakageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

_COLUMNS = ("path", "label", "split")
#: What says which object of its image a row is; cells of the first, y and x may be empty.
OBJECT_COLUMNS = ("mask", "object", "y", "x")
_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: a table with one row an image or an object, and the classes in order.

    Parameters
    ----------
    table : DataFrame
        Columns ``path`` (absolute; of an image in several files the first, which stands for it),
        ``label`` (name of the class), ``split`` (``"train"``, ``"validation"``, ``"test"`` or
        ``""``), then what names and tables say: experiment, plate, well, minute, embryo and so on.
        Where rows are objects, ``mask`` (absolute path, or ``""``), ``object`` (its number in the
        mask), ``y`` and ``x`` (its centre in pixels, or ``""``). Where rows are planes of
        stacks, or objects in them, ``plane`` (such as ``"t=3"``, counted from 0).
    classes : tuple of ClassSpec
        In the order of the network's answers.
    group_column : str, optional
        What images are kept together by: a column, or several joined by ``+``.
    group_reason : str
        One sentence: why this one, or why none.
    source : str
        What was read, in words.
    leakage_allowed : bool
        Whether the user allowed one group to be on both sides of the split.
    naming : str, optional
        The naming scheme or pattern that the images were read by, if the user chose one.

    Raises
    ------
    DatasetError
        If columns are missing, or a row's label or split is not known.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(f"/data/{n}.png", "ab"[n % 2], f"embryo{n // 4}") for n in range(24)]
    >>> table = pd.DataFrame(rows, columns=["path", "label", "embryo"]).assign(split="")
    >>> classes = (ClassSpec(name="a"), ClassSpec(name="b"))
    >>> data = Dataset(table, classes, group_column="embryo").split(seed=1)
    >>> len(data.train), len(data.validation), len(data.test), data.leaks()
    (16, 4, 4, ())
    """

    table: pd.DataFrame
    classes: tuple[ClassSpec, ...]
    group_column: str | None = None
    group_reason: str = ""
    source: str = ""
    leakage_allowed: bool = False
    naming: str | None = None

    def __post_init__(self) -> None:
        missing = [name for name in _COLUMNS if name not in self.table.columns]
        if missing:
            raise DatasetError(f"the table of images lacks {', '.join(missing)}; add such columns")
        if len(set(self.class_names)) < len(self.classes):
            raise DatasetError(
                f"two classes of the same name in {', '.join(self.class_names)}; rename one"
            )
        self._check_values("label", self.class_names)
        self._check_values("split", ("", *SPLITS))
        first = [*_COLUMNS, *(name for name in self.table.columns if name not in _COLUMNS)]
        object.__setattr__(self, "table", self.table[first].reset_index(drop=True))

    def _check_values(self, column: str, known: tuple[str, ...]) -> None:
        unknown = [value for value in self.table[column].unique() if value not in known]
        if unknown:
            raise DatasetError(
                f"the column {column!r} holds {unknown[0]!r}, but only "
                f"{', '.join(filter(None, known))} are allowed; correct the table"
            )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in their order."""
        return tuple(spec.name for spec in self.classes)

    @property
    def is_ordered(self) -> bool:
        """Whether the classes lie on a scale, such as stages."""
        return len(self.classes) > 0 and all(spec.value is not None for spec in self.classes)

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each image."""
        return tuple(self.table["path"])

    @property
    def has_objects(self) -> bool:
        """Whether the rows are objects of images, and not whole images."""
        return set(OBJECT_COLUMNS) <= set(self.table.columns)

    @property
    def has_planes(self) -> bool:
        """Whether some rows are planes of stacks, or objects in such planes."""
        return any(self.planes)

    @property
    def noun(self) -> str:
        """What a row is, in a word."""
        return "object" if self.has_objects else "image"

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """Which plane of its stack each row is, or is in; empty for all that its file holds."""
        cells = self.table["plane"] if "plane" in self.table.columns else ()
        read = [plane_from_text(str(cell)) for cell in cells]
        # A column of that name may say something else.
        found = [plane for plane in read if plane is not None]
        return tuple(found) if len(found) == len(self) else ((),) * len(self)

    @cached_property
    def plane_ids(self) -> tuple[str, ...]:
        """Name of the image or plane that each row is, or is in."""
        rows = zip(self.paths, self.planes, strict=True)
        return tuple(path + position_text(dict(plane)) for path, plane in rows)

    @cached_property
    def objects(self) -> tuple[NamedObject | None, ...]:
        """Which object of its image each row is; None for whole images."""
        if not self.has_objects:
            return (None,) * len(self)
        cells = zip(*(self.table[name] for name in OBJECT_COLUMNS[1:]), self.planes, strict=True)
        return tuple(
            NamedObject(int(number), (float(y), float(x)) if f"{y}" else None, plane=plane)
            for number, y, x, plane in cells
        )

    @property
    def masks(self) -> tuple[str | None, ...]:
        """Path of the mask of each row's object, if it is of one."""
        if not self.has_objects:
            return (None,) * len(self)
        return tuple(str(mask) or None for mask in self.table["mask"])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Name of each row, as in tables of predictions: path, plane and number of an object."""
        rows = zip(self.paths, self.planes, self.objects, strict=True)
        return tuple(
            path + position_text(dict(plane), None if one is None else one.number)
            for path, plane, one in rows
        )

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class number of each image, shape (N,)."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return np.array([numbers[label] for label in self.table["label"]], np.int64)

    @cached_property
    def groups(self) -> NDArray[np.object_]:
        """Group of each image as text, such as ``"HUVEC-01/1"``; all ``""`` if none is known."""
        return group_keys(self.table, self.group_column)

    @property
    def train(self) -> Dataset:
        """The images to learn from."""
        return self._part("train")

    @property
    def validation(self) -> Dataset:
        """The images that decide when to stop."""
        return self._part("validation")

    @property
    def test(self) -> Dataset:
        """The images that tell how good it is, and decide nothing."""
        return self._part("test")

    def _part(self, split: str) -> Dataset:
        return self.subset((self.table["split"] == split).to_numpy())

    def subset(self, rows: ArrayLike) -> Dataset:
        """Return some of the images, with the same classes.

        Parameters
        ----------
        rows : array
            A bool for each row, or row numbers.

        Returns
        -------
        Dataset
            Those rows.
        """
        chosen = np.asarray(rows)
        numbers = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return replace(self, table=self.table.iloc[numbers])

    def counts(self) -> pd.DataFrame:
        """Count the images of each class and split.

        Returns
        -------
        DataFrame
            A row a class, in order; columns ``train``, ``validation`` and ``test``, and
            ``unsplit`` if some images are in none of them.
        """
        import pandas as pd

        splits = self.table["split"].to_numpy(object)
        columns = {
            split or "unsplit": np.bincount(
                self.labels[splits == split], minlength=len(self.classes)
            )
            for split in (*SPLITS, "")
            if split or "" in splits
        }
        return pd.DataFrame(columns, index=pd.Index(self.class_names, name="label"))

    def with_splits(self, splits: Sequence[str] | NDArray[Any], **changes: Any) -> Dataset:
        """Return the same images divided in another way.

        Parameters
        ----------
        splits : sequence of str
            One for each row.
        **changes
            Further fields to change.

        Returns
        -------
        Dataset
            A new one.
        """
        return replace(self, table=self.table.assign(split=list(splits)), **changes)

    def split(
        self,
        by: str | None = None,
        *,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
        allow_leakage: bool = False,
    ) -> Dataset:
        """Divide the images into training, validation and test.

        Parameters
        ----------
        by : str, optional
            A column, or several joined by ``+``: images with the same value stay together.
            ``"random"``: each image by itself. ``"given"``: keep the column ``split``. By default
            the data set's group, or random if none is known.
        fractions : tuple of 3 float
            Of training, validation and test; they sum to 1. Each is met as nearly as whole groups
            allow, in every class.
        seed : int
            The same number divides in the same way.
        allow_leakage : bool
            Whether one group may be on both sides; reports say so then.

        Returns
        -------
        Dataset
            Every row in one split; the column that was used is its group. Of two groups, one
            trains and one tests, and there is no validation. Every class is in training.

        Raises
        ------
        LeakageError
            If groups would be on both sides.
        DatasetError
            If there is no such column, or it has too few groups to hold any out.
        """
        check_fractions(fractions)
        if not len(self):
            raise DatasetError("the data set holds no images; read a folder or a table that does")
        if by == "given":
            return self._as_given(allow_leakage)
        if by == "random" or (by is None and self.group_column is None):
            parts = split_random(self.labels, fractions, seed)
            result = self._divided(parts, allow_leakage)
            result.check_leakage()
            return result
        data = self._grouped_by(by)
        numbers = data._group_numbers()
        parts = split_groups(data.labels, numbers, fractions, seed)
        data._check_held_out(numbers, parts, fractions)
        return data._divided(parts, allow_leakage)

    def leave_one_group_out(
        self, by: str | None = None, *, validation: float | None = None, seed: int = 0
    ) -> list[tuple[str, Dataset]]:
        """Hold out one group after the other.

        Parameters
        ----------
        by : str, optional
            A column, or several joined by ``+``; by default the data set's group.
        validation : float, optional
            Part of the other images to validate with, whole groups; by default none.
        seed : int
            Chooses the groups to validate with.

        Returns
        -------
        list of (str, Dataset)
            Name of each group, in order, and the data set whose test split it is.

        Raises
        ------
        DatasetError
            If there are not two groups.
        """
        data = self._grouped_by(by)
        names = sorted(set(data.groups), key=natural_key)
        if len(names) < 2:
            raise DatasetError(
                f"all images are of one group ({data.group_column}: {', '.join(names)}), which "
                "cannot be left out; choose another column"
            )
        held_out = [(name, data.groups == name) for name in names]
        return [(name, data._with_test(test, validation, seed)) for name, test in held_out]

    def k_fold(
        self, k: int, by: str | None = None, *, validation: float | None = None, seed: int = 0
    ) -> list[Dataset]:
        """Divide the images into k parts and hold out one after the other.

        Parameters
        ----------
        k : int
            At least 2, and at most the number of groups.
        by : str, optional
            As for `split`.
        validation : float, optional
            Part of the other images to validate with, whole groups; by default none.
        seed : int
            The same number divides in the same way.

        Returns
        -------
        list of Dataset
            Each image is in the test split of one of them.

        Raises
        ------
        LeakageError
            If `by` is ``"random"`` although a group is known.
        DatasetError
            If there are fewer groups than k.
        """
        if by == "random" or (by is None and self.group_column is None):
            if self.group_column is not None:
                raise LeakageError(
                    f"random folds would put images of one group ({self.group_column}) on both "
                    "sides; leave out by, or name the column to keep together"
                )
            data, groups = self, np.arange(len(self))
        else:
            data = self._grouped_by(by)
            groups = data._group_numbers()
        n_groups = len(set(groups.tolist()))
        if not 2 <= k <= n_groups:
            raise DatasetError(
                f"{k} folds cannot be made of {n_groups} groups; choose between 2 and {n_groups}"
            )
        if data.group_column is None:
            parts = deal(data.labels, k, seed)
        else:
            parts = split_groups(data.labels, groups, [1 / k] * k, seed, cover_first=False)
        return [data._with_test(parts == fold, validation, seed) for fold in range(k)]

    def with_validation(self, fraction: float = 0.15, *, seed: int = 0) -> Dataset:
        """Take validation images out of the training images, in whole groups.

        Parameters
        ----------
        fraction : float
            Of the training images.
        seed : int
            The same number chooses the same.

        Returns
        -------
        Dataset
            The same data set if it has validation images, or its training images are of one group.
        """
        if not 0 < fraction < 1:
            raise DatasetError(
                f"a fraction of {fraction} cannot validate; give one between 0 and 1"
            )
        splits = self.table["split"].to_numpy(object).copy()
        rows = np.flatnonzero(splits == "train")
        if "validation" in splits or not len(rows):
            return self
        fractions, training = (1 - fraction, fraction), self.subset(rows)
        if self.group_column is None:
            parts = split_random(training.labels, fractions, seed)
        else:
            parts = split_groups(training.labels, training._group_numbers(), fractions, seed)
        splits[rows[parts == 1]] = "validation"
        return self.with_splits(splits)

    def equal_numbers(self, seed: int = 0) -> Dataset:
        """Keep the same number of training images of each class, chosen at random.

        Parameters
        ----------
        seed : int
            The same number chooses the same.

        Returns
        -------
        Dataset
            As many of each class as the rarest one has. Other splits are as before; of images
            that are in no split, all are taken for training.
        """
        splits = self.table["split"].to_numpy(object)
        training = splits == ("train" if "train" in splits else "")
        counts = np.bincount(self.labels[training], minlength=len(self.classes))
        wanted = counts[counts > 0].min(initial=len(self))
        rng = np.random.default_rng(seed)
        keep = ~training
        for label in range(len(self.classes)):
            rows = np.flatnonzero(training & (self.labels == label))
            keep[rng.permutation(rows)[:wanted]] = True
        return self.subset(keep)

    def leaks(self) -> tuple[str, ...]:
        """Name the groups that are in more than one split.

        Returns
        -------
        tuple of str
            In order; empty if there are none, or no group is known.
        """
        if self.group_column is None:
            return ()
        first: dict[str, str] = {}
        found: dict[str, None] = {}
        for group, split in zip(self.groups, self.table["split"], strict=True):
            if split and first.setdefault(group, split) != split:
                found[group] = None
        return tuple(sorted(found))

    def check_leakage(self) -> None:
        """Refuse a split with one group on both sides, unless the user allowed it.

        Raises
        ------
        LeakageError
            Naming the groups.
        """
        leaks = self.leaks()
        if leaks and not self.leakage_allowed:
            named = ", ".join(leaks[:_MOST_NAMED])
            more = f" and {len(leaks) - _MOST_NAMED} more" if len(leaks) > _MOST_NAMED else ""
            raise LeakageError(
                f"images of {counted(len(leaks), 'group')} "
                f"({self.group_column}: {named}{more}) are on both sides of the split, so that the "
                "result would look better than it is; split by that column, or allow it "
                "(allow_leakage=True, --allow-leakage)"
            )

    @cached_property
    def sha256(self) -> str:
        """Hash of the images' names, labels and splits; the same wherever the folder lies."""
        paths = self.paths
        root = _common_folder(paths)
        digest = hashlib.sha256()
        # An object's id begins with its path.
        rows = zip(self.ids, self.table["label"], self.table["split"], strict=True)
        for path, label, split in rows:
            name = path[len(root) :].replace(os.sep, "/").lstrip("/")
            digest.update("\0".join((name, label, split, "")).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _divided(self, parts: NDArray[np.int64], allow_leakage: bool) -> Dataset:
        splits = np.array(SPLITS, object)[parts]
        return self.with_splits(splits, leakage_allowed=allow_leakage)

    def _with_test(self, test: NDArray[np.bool_], validation: float | None, seed: int) -> Dataset:
        divided = self.with_splits(np.where(test, "test", "train"), leakage_allowed=False)
        return divided if validation is None else divided.with_validation(validation, seed=seed)

    def _as_given(self, allow_leakage: bool) -> Dataset:
        if not (self.table["split"] == "train").any():
            raise DatasetError(
                "the images come without a given split; name one in a column 'split' (train, "
                "validation, test), or split them by a column or at random"
            )
        result = replace(self, leakage_allowed=allow_leakage)
        result.check_leakage()
        return result

    def _grouped_by(self, by: str | None) -> Dataset:
        """Make a column the group, unless it is already."""
        if by is None or by == self.group_column:
            if self.group_column is None:
                raise DatasetError(
                    "no group of these images is known; name the column to keep together"
                )
            return self
        group_keys(self.table, by)
        return replace(self, group_column=by, group_reason=f"the group was chosen: {by}")

    def _group_numbers(self) -> NDArray[np.int64]:
        """Return the number of each image's group, in natural order, whatever the order of rows."""
        names = sorted(set(self.groups), key=natural_key)
        order = {name: number for number, name in enumerate(names)}
        return np.array([order[name] for name in self.groups], np.int64)

    def _check_held_out(
        self, groups: NDArray[np.int64], parts: NDArray[np.int64], fractions: Sequence[float]
    ) -> None:
        """Refuse a split without a test, or without validation if only that was asked for."""
        last = 2 if fractions[2] > 0 else 1
        if fractions[last] <= 0 or (parts == last).any():
            return
        names = sorted(set(self.groups), key=natural_key)
        if len(names) < 2:
            raise DatasetError(
                f"all images are of one group ({self.group_column}: {', '.join(names)}), so that "
                "none can be held out; group them by another column, or split at random"
            )
        alone = [
            name
            for number, name in enumerate(self.class_names)
            if len(set(groups[self.labels == number].tolist())) == 1
        ]
        raise DatasetError(
            f"no group ({self.group_column}) can be held out, since some classes are in one group "
            f"only ({', '.join(alone[:5])}) and would not be trained; group the images by another "
            "column"
        )


def _common_folder(paths: Sequence[str]) -> str:
    try:
        # Each folder once: a screen has a hundred images in each of its folders, or more.
        return os.path.commonpath({os.path.dirname(path) for path in paths})  # noqa: PTH120
    except ValueError:
        # No image at all, or images on several drives.
        return ""
