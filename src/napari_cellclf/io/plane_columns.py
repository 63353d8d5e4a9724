"""The columns of a table that say which plane of a stack a row is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_cellclf.core.objects import Plane, plane_from_text
from napari_cellclf.errors import InputError

#: Axes that may have a column of their own: position, time, depth. All others, in ``plane``.
AXIS_COLUMNS = ("p", "t", "z")
#: As a spreadsheet may write it: 9.0.
_WHOLE = re.compile(r"(\d{1,9})(?:\.0*)?")


@dataclass(frozen=True)
class PlaneColumns:
    """``plane``, with cells such as ``t=3,z=1``, or ``p``, ``t`` and ``z`` with whole numbers.

    The latter only where they tell rows of one file apart: beside files that are named once, ``t``
    may be a time in minutes.
    """

    names: tuple[str, ...]

    @classmethod
    def of_rows(
        cls, columns: Sequence[str], rows: Sequence[Mapping[str, str]], path: str = "path"
    ) -> PlaneColumns | None:
        """Find those of a table; a column whose cells say something else is none.

        `path`: the column of the files.

        Examples
        --------
        >>> steps = [{"path": "a.tif", "T": "3"}, {"path": "a.tif", "T": "4"}]
        >>> PlaneColumns.of_rows(["path", "T"], steps).names
        ('T',)
        >>> PlaneColumns.of_rows(["path", "T"], steps[:1]) is None
        True
        """
        by_name = {name.lower(): name for name in columns}
        if "plane" in by_name:
            name = by_name["plane"]
            are_planes = all(plane_from_text(row[name]) is not None for row in rows)
            return cls((name,)) if are_planes and any(row[name].strip() for row in rows) else None
        found = [
            by_name[axis]
            for axis in AXIS_COLUMNS
            if axis in by_name and _are_steps([row[by_name[axis]].strip() for row in rows])
        ]
        named: dict[str, tuple[str, ...]] = {}
        for row in rows:
            steps = tuple(row[name].strip() for name in found)
            if named.setdefault(row[path], steps) != steps:
                return cls(tuple(found))
        return None

    def plane_in(self, row: Mapping[str, str], where: str) -> Plane:
        """Return the plane of a row; empty if it names none. `where`: what an error calls it."""
        if len(self.names) == 1 and self.names[0].lower() == "plane":
            plane = plane_from_text(row[self.names[0]]) or ()
            if len(dict(plane)) < len(plane):
                raise InputError(f"{where} names an axis twice in its plane; name each axis once")
            return plane
        cells = [(name.upper(), _WHOLE.fullmatch(row[name].strip())) for name in self.names]
        return tuple((letter, int(found[1])) for letter, found in cells if found)


def _are_steps(cells: Sequence[str]) -> bool:
    return any(cells) and all(not cell or _WHOLE.fullmatch(cell) for cell in cells)
