"""What is open to be looked at, labelled and classified: rows, each of which is one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.grouping import group_keys
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ImageObject, Plane, position_text
from napari_cellclf.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def row_id(source: str, plane: Mapping[str, int], number: int | None = None) -> str:
    """Name an image, a plane of it or an object in it as tables of predictions do.

    Examples
    --------
    >>> row_id("a.tif", {}), row_id("a.tif", {"T": 3}), row_id("a.tif", {"T": 3}, 12)
    ('a.tif', 'a.tif[t=3]', 'a.tif[t=3,object=12]')
    """
    return source + position_text(plane, number)


@dataclass(frozen=True)
class Row:
    """One image, one plane of a stack, or one object in a plane."""

    #: Absolute path (of an image in several files, that of its first channel), or a layer's name.
    source: str
    #: Position along each leading axis of the image, such as ``(("T", 3),)``.
    plane: Plane = ()
    #: The object, where rows are objects.
    object: ImageObject | None = None
    #: What names and tables say of it.
    fields: Mapping[str, Any] = field(default_factory=dict)
    #: Path of the mask that the object is of, if it is of a file.
    mask: str | None = None

    @property
    def id(self) -> str:
        """The name under which a `Classifier` predicts it."""
        number = None if self.object is None else self.object.number
        return row_id(self.source, dict(self.plane), number)


class Collection:
    """Rows that can be read one by one.

    `read_row`: gives the whole plane of a row, ``YX`` with channels, of which an object is cut by
    whoever prepares it. `title`: what was opened, in a few words. `group_column`: the field by
    which rows are kept together; by default, planes and objects of one image are.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        read_row: Callable[[Row], Image],
        *,
        title: str = "",
        group_column: str | None = None,
    ) -> None:
        self.rows = tuple(rows)
        self.title = title
        self.group_column = group_column
        self._read_row = read_row

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Name of each row, as in tables of predictions."""
        return tuple(row.id for row in self.rows)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    @property
    def has_objects(self) -> bool:
        """Whether the rows are objects."""
        return bool(self.rows) and self.rows[0].object is not None

    @property
    def noun(self) -> str:
        """What a row is, in a word."""
        if self.has_objects:
            return "object"
        return "plane" if any(row.plane for row in self.rows) else "image"

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """What is known of some row, in the order in which it was met."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.fields))

    @cached_property
    def groups(self) -> NDArray[np.object_] | None:
        """What each row is kept together by, as text, shape (N,); None if each stands alone."""
        if self.group_column is not None:
            import pandas as pd

            table = pd.DataFrame([dict(row.fields) for row in self.rows])
            return group_keys(table, self.group_column)
        if any(row.plane or row.object is not None for row in self.rows):
            return np.array([row.source for row in self.rows], object)
        return None

    def grouped_by(self, column: str | None) -> Collection:
        """Return the same rows, kept together by another field; None is by their images."""
        return Collection(self.rows, self._read_row, title=self.title, group_column=column)

    def row_of(self, name: str) -> int | None:
        """Return the number of the row of a name; None if there is none."""
        return self._numbers.get(name)

    def values(self, field_name: str) -> tuple[Any, ...]:
        """Return a field of every row; None where it is not known.

        Raises
        ------
        DatasetError
            If no row has such a field.
        """
        if field_name not in self.field_names:
            known = ", ".join(self.field_names) or "none"
            raise DatasetError(f"the rows have no field {field_name!r} (theirs: {known})")
        return tuple(row.fields.get(field_name) for row in self.rows)

    def read(self, number: int) -> Image:
        """Read the plane that a row is of."""
        return self._read_row(self.rows[number])
