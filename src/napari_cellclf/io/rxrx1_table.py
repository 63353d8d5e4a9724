"""RxRx1's table of sites, ``metadata.csv``, joined to images by ``site_id``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

#: The columns as published (https://www.rxrx.ai/rxrx1).
COLUMNS = (
    "site_id",
    "well_id",
    "cell_type",
    "dataset",
    "experiment",
    "plate",
    "well",
    "site",
    "well_type",
    "sirna",
    "sirna_id",
)
_NUMBERS = frozenset({"plate", "site", "sirna_id"})
_NAME = "metadata.csv"

#: From a plate's folder up to the data set's root, with one to spare.
_LEVELS_UP = 5
#: The published table has 125,510 rows in 12 MB.
_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Table:
    """The rows of a ``metadata.csv``, kept as text until one is asked for."""

    #: In the order of the file.
    columns: tuple[str, ...] = ()
    #: By ``site_id``. The published table has a hundred thousand rows, of which a plate needs a
    #: few hundred: splitting only those is four times as fast.
    lines: Mapping[str, str] = field(default_factory=dict)

    def row(self, site_id: str | None) -> dict[str, Any]:
        """Look a site up."""
        line = self.lines.get(site_id) if site_id else None
        if line is None:
            return {}
        cells = zip(self.columns, next(csv.reader([line])), strict=False)
        return {
            column: int(text) if column in _NUMBERS and text.isdecimal() else text
            for column, text in cells
            if text and column in COLUMNS
        }


def table_above(folder: Path) -> Table:
    """Find the ``metadata.csv`` in a folder or the nearest one above it."""
    folder = folder.absolute()
    for above in (folder, *folder.parents)[: _LEVELS_UP + 1]:
        path = above / _NAME
        try:
            stat = path.stat()
        except OSError:
            continue
        table = _load(path, stat.st_mtime_ns, stat.st_size)
        if table is not None:
            return table
    return Table()


@lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int, size: int) -> Table | None:
    """Load a table; `modified_ns` and `size` make a changed file a different one to the cache."""
    if size > _MAX_BYTES:
        return None
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            columns = tuple(next(csv.reader([file.readline()]), ()))
            if "site_id" not in columns:
                # Somebody else's table of that name.
                return None
            at = columns.index("site_id")
            rows = ((line.split(",", at + 1), line) for line in file)
            return Table(
                columns, {cells[at].strip('"\n'): line for cells, line in rows if len(cells) > at}
            )
    except (OSError, csv.Error):
        # The images say what they say without it.
        return None
