"""Which images belong together: what must never be on both sides of a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING
from unicodedata import normalize

import numpy as np

from napari_cellclf.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Group of images that a column says nothing of. They stay together: nobody knows better.
UNKNOWN = "(unknown)"

# What names may say, from what varies most between experiments to what varies least.
_WORDS = (
    ("donor", "donor|patient|subject|individual"),
    ("animal", "animal|mouse|rat|fish|fly|worm|larva"),
    ("embryo", "embryo"),
    ("experiment", "experiment|exp|batch|run"),
    ("plate", "plate"),
    ("slide", "slide|section"),
    ("movie", "movie|series|timelapse|video"),
    ("position", "position|pos|fov|field"),
)
_PATTERNS = {
    name: re.compile(rf"(?<![a-z])(?:{words})[ _-]?(\d{{1,6}})(?!\d)", re.IGNORECASE)
    for name, words in _WORDS
}
# Row and column of a plate of 96, 384 or 1536 wells.
_WELL = re.compile(r"(?<![A-Za-z0-9])(?:well[ _-]?)?([A-P]\d{2}|A[A-F]\d{2})(?![A-Za-z0-9])")

_USUAL = ("group", *_PATTERNS, "well")
#: Columns in each of whose values the numbers of another begin again.
_STARTS_AGAIN = {
    "embryo": ("date", "cycle"),
    "plate": ("experiment",),
    "position": ("experiment", "plate"),
    "well": ("experiment", "plate"),
}

_RANDOM = (
    "no group is known, since neither the names nor a table say which images are of one embryo, "
    "plate, well or movie: the split is random, and if some are, what is measured on the test "
    "images will be too good"
)


def group_keys(table: pd.DataFrame, column: str | None) -> NDArray[np.object_]:
    """Return the group of each row as text."""
    if column is None:
        return np.full(len(table), "", object)
    # A column may have a + in its own name.
    names = [column] if column in table.columns else [name.strip() for name in column.split("+")]
    for name in names:
        if name not in table.columns:
            known = ", ".join(str(known) for known in table.columns if known != "path")
            raise DatasetError(
                f"there is no column {name!r} to group images by; choose of {known}, or join "
                "several with +"
            )
    cells = [["" if _is_missing(cell) else _text(cell) for cell in table[name]] for name in names]
    keys = ["/".join(row) if any(row) else UNKNOWN for row in zip(*cells, strict=True)]
    return np.array(keys, object)


def _is_missing(cell: object) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and np.isnan(cell))


def _text(cell: object) -> str:
    if isinstance(cell, str):
        # One name that is written in two ways (é, or e and an accent) is one group.
        return normalize("NFC", cell)
    # A column of whole numbers with gaps holds 1.0 for 1.
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def guess_group(
    table: pd.DataFrame, known: Sequence[str] = (), chosen: Sequence[str] = ()
) -> tuple[str | None, str]:
    """Guess what keeps images together from what names and tables say of them.

    `known`: columns that file names, and no table of the user, say. `chosen`: what a naming scheme
    says, from what varies most between experiments to what varies least.
    """
    columns = {str(name) for name in table.columns if _says_something(table, str(name))}
    if "group" in columns and "group" not in known:
        return "group", "the group is the column 'group' of the table"
    choices = [one for one in chosen if set(one.split("+")) <= columns]
    choices = choices or [_within(name, columns) for name in _USUAL if name in columns]
    for choice in choices:
        if _separable(table, choice):
            return choice, _why(choice, choices, known)
    # Several columns together, or a scheme, are sure enough of what belongs together.
    sure = [one for one in choices if one in chosen or "+" in one]
    return (sure[-1], _why(sure[-1], choices, known)) if sure else (None, _RANDOM)


def _within(name: str, columns: Collection[str]) -> str:
    """Join a column with those in each of whose values its own numbers begin again."""
    return "+".join([*(one for one in _STARTS_AGAIN.get(name, ()) if one in columns), name])


def _why(choice: str, choices: Sequence[str], known: Sequence[str]) -> str:
    names = choice.split("+")
    of_names = all(name in known for name in names)
    where = "the file names" if of_names else f"the column {choice!r} of the table"
    one = names[-1] if len(names) == 1 else f"{names[-1]} ({', '.join(names[:-1])} and number)"
    reason = f"the group is guessed from {where}: all images of one {one} stay together"
    coarser = [other for other in choices[: choices.index(choice)] if other != choice]
    if not coarser:
        return reason
    whole = coarser[0].split("+")[-1]
    return (
        f"{reason}, because some class occurs in one {whole} only, so that whole {whole}s cannot "
        f"be held out; another {whole} may be harder"
    )


def _says_something(table: pd.DataFrame, name: str) -> bool:
    return any(not _is_missing(cell) for cell in table[name])


def _separable(table: pd.DataFrame, column: str) -> bool:
    """Whether every class occurs in at least two groups."""
    pairs = set(zip(table["label"], group_keys(table, column), strict=True))
    groups = Counter(label for label, _ in pairs)
    return min(groups.values(), default=0) > 1


def columns_from_names(
    names: Sequence[str],
) -> Mapping[str, list[str]]:
    """Find what file names say of where images are from.

    Examples
    --------
    >>> dict(columns_from_names(["t1-embryo01.png", "t2-embryo01.png", "t1-embryo02.png"]))
    {'embryo': ['01', '01', '02']}
    """
    found = {}
    for column, pattern in {**_PATTERNS, "well": _WELL}.items():
        matches = [_last_match(pattern, name) for name in names]
        values = [match[1] for match in matches if match]
        if len(values) == len(names) and 1 < len(set(values)) < len(values):
            found[column] = values
    return found


def _last_match(pattern: re.Pattern[str], name: str) -> re.Match[str] | None:
    """Find what the file's own name says, or else the nearest folder's."""
    path = PurePath(name)
    for part in (path.stem, *reversed(path.parent.parts)):
        match = pattern.search(part)
        if match:
            return match
    return None
