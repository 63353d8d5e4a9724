"""RxRx1: six stains of a site in six files, their names, and the published table of sites.

Files are called as published, ``<experiment>/Plate<p>/<well>_s<site>_w<channel>.png``, such as
``HUVEC-01/Plate1/B02_s1_w3.png`` (https://www.rxrx.ai/rxrx1). Files that were taken out of their
folders are known by their names alone; they then belong to no experiment and no plate.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.stains import STAINS
from napari_cellclf.errors import InputError
from napari_cellclf.io.csv_tables import check_heading, open_csv
from napari_cellclf.io.named_images import NamedImage
from napari_cellclf.io.naming import CHANNEL, Fields, NamingScheme
from napari_cellclf.io.regular_files import read_regular

#: The columns of ``metadata.csv`` as published.
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
_TABLE = "metadata.csv"
#: From a plate's folder up to the data set's root, with one to spare.
_LEVELS_UP = 5
#: The published table has 125,510 rows in 12 MB.
_MAX_BYTES = 256 * 2**20

#: Well, site and channel of a file name.
_FILE = re.compile(r"([A-Z]{1,2}\d{2})_s(\d{1,2})_w([1-6])\.png", re.IGNORECASE)
_PLATE = re.compile(r"Plate_?(\d{1,3})", re.IGNORECASE)
_EXPERIMENT = re.compile(r"([A-Za-z][A-Za-z0-9]*)-(\d{1,3})")

#: Colours as in the publisher's own display code (rxrx1-utils, rxrx/io.py, RGB_MAP).
_COLORMAPS = ("blue", "green", "red", "cyan", "magenta", "yellow")
#: Other names under which laboratories keep such a channel.
_ALIASES = (
    ("w1", "Hoechst", "Hoechst 33342", "DNA", "DAPI", "nuclei", "nucleus"),
    ("w2", "ConA", "concanavalin A", "ER", "endoplasmic reticulum"),
    ("w3", "phalloidin", "actin"),
    ("w4", "Syto14", "Syto 14", "RNA", "nucleoli"),
    ("w5", "MitoTracker", "mito", "mitochondria"),
    ("w6", "WGA", "wheat germ agglutinin", "Golgi", "membrane"),
)


class RxRx1Names(NamingScheme):
    """``HUVEC-01/Plate1/B02_s1_w3.png``: a file for each stain of a site."""

    name = "rxrx1"
    example = "HUVEC-01/Plate1/B02_s1_w3.png"
    globs = ("*_s[0-9]_w[1-6].png", "*_s[0-9][0-9]_w[1-6].png")
    channels = (1, 2, 3, 4, 5, 6)
    groups = ("experiment", "experiment+plate", "experiment+plate+well")
    label = "cell_type"
    split = "dataset"

    def parse(self, path: PurePath) -> Fields | None:
        """Read experiment and plate off the folders, the rest off the name."""
        match = _FILE.fullmatch(path.name)
        if match is None:
            return None
        well, site, channel = match.groups()
        own = {"well": well.upper(), "site": int(site), CHANNEL: int(channel)}
        return {**_parse_folders(*path.parts[-3:-1]), **own}

    def channel_name(self, channel: str | int) -> str:
        """Name the published stain."""
        return STAINS[int(channel) - 1]

    def channel_aliases(self, channel: str | int) -> tuple[str, ...]:
        """Return what laboratories call such a channel."""
        return _ALIASES[int(channel) - 1]

    def colormap(self, channel: str | int) -> str:
        """Return a colormap near the colour in which the publisher shows it."""
        return _COLORMAPS[int(channel) - 1]

    def title(self, fields: Fields) -> str:
        """Return ``HUVEC-01 Plate1 B02 s1``, or what is known of it."""
        place = [str(fields["experiment"])] if "experiment" in fields else []
        place += [f"Plate{fields['plate']}"] if "plate" in fields else []
        return " ".join([*place, str(fields["well"]), f"s{fields['site']}"])

    def is_folder(self, name: str) -> bool:
        """Whether a folder is named like a plate or an experiment."""
        return bool(_PLATE.fullmatch(name) or _EXPERIMENT.fullmatch(name))

    def label_of(self, described: Mapping[str, Any]) -> str | None:
        """Return the cell type; where no table says it, the experiment's name does: HUVEC-01."""
        experiment = described.get("experiment")
        known: str | None = described.get("cell_type")
        return known or (str(experiment).rsplit("-", 1)[0] if experiment else None)

    def describe(self, images: Sequence[NamedImage]) -> list[dict[str, Any]]:
        """Join the published table, which is looked for once for each folder."""
        tables = {folder: _table_above(folder) for folder in {one.first.parent for one in images}}
        return [_described(image, tables[image.first.parent]) for image in images]


RXRX1 = RxRx1Names()


def stain_channels(optional: Collection[int] = ()) -> tuple[ChannelSpec, ...]:
    """Describe the six stains as channels that a network expects.

    `optional`: numbers of the stains that an image may lack, such as ``(5, 6)``.

    Examples
    --------
    >>> channels = stain_channels(optional=(5, 6))
    >>> channels[0].matches("DAPI"), channels[5].required
    (True, False)
    """
    return tuple(
        ChannelSpec(name=name, aliases=aliases, required=number not in optional)
        for number, (name, aliases) in enumerate(zip(STAINS, _ALIASES, strict=True), start=1)
    )


@lru_cache(maxsize=256)
def _parse_folders(*names: str) -> dict[str, str | int]:
    """Read experiment and plate; the experiment's number gets two digits, as published."""
    if len(names) < 2:
        return {}
    experiment, plate = _EXPERIMENT.fullmatch(names[0]), _PLATE.fullmatch(names[1])
    if plate is None or experiment is None:
        return {}
    return {"experiment": f"{experiment[1]}-{int(experiment[2]):02d}", "plate": int(plate[1])}


def _described(image: NamedImage, table: _Table) -> dict[str, Any]:
    says: dict[str, Any] = dict(image.fields)
    if "experiment" in says:
        says["well_id"] = f"{says['experiment']}_{says['plate']}_{says['well']}"
        says["site_id"] = f"{says['well_id']}_{says['site']}"
    known = table.row(says.get("site_id"))
    columns = {column: says.get(column, known.get(column)) for column in COLUMNS}
    return columns | {"missing_channels": image.missing}


@dataclass(frozen=True)
class _Table:
    """The rows of a ``metadata.csv``, kept as text until one is asked for."""

    path: Path = Path(_TABLE)
    #: In the order of the file.
    columns: tuple[str, ...] = ()
    #: What is between two cells.
    separator: str = ","
    #: By ``site_id``. The published table has a hundred thousand rows, of which a plate needs a
    #: few hundred: splitting only those is four times as fast.
    lines: Mapping[str, str] = field(default_factory=dict)

    def row(self, site_id: str | None) -> dict[str, Any]:
        """Look a site up."""
        line = self.lines.get(site_id) if site_id else None
        if line is None:
            return {}
        cells = next(csv.reader([line], delimiter=self.separator))
        if len(cells) != len(self.columns):
            raise InputError(
                f"the row of {site_id} in the table {self.path} has {len(cells)} cells, but its "
                f"heading has {len(self.columns)}; correct the row"
            )
        return {
            column: int(text) if column in _NUMBERS and text.isdecimal() else text
            for column, text in zip(self.columns, cells, strict=True)
            if text and column in COLUMNS
        }


def _table_above(folder: Path) -> _Table:
    """Find the ``metadata.csv`` in a folder or the nearest one above it."""
    folder = folder.absolute()
    for above in (folder, *folder.parents)[: _LEVELS_UP + 1]:
        path = above / _TABLE
        try:
            stat = path.stat()
        except OSError:
            continue
        table = _load(path, stat.st_mtime_ns, stat.st_size)
        if table is not None:
            return table
    return _Table()


@lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int, size: int) -> _Table | None:
    """Load a table; `modified_ns` and `size` make a changed file a different one to the cache."""
    if size > _MAX_BYTES:
        return None
    try:
        found = open_csv(path)
    except InputError:
        if b"site_id" in read_regular(path):
            raise
        # Somebody else's table of that name; the images say what they say without it.
        return None
    lines, separator = io.StringIO(found.text, newline=None), found.separator
    heading = next(csv.reader([lines.readline()], delimiter=separator), [])
    columns = tuple(name.strip().lower() for name in heading)
    if "site_id" not in columns:
        return None
    check_heading(path, columns)
    at = columns.index("site_id")
    rows = ((line.split(separator, at + 1), line) for line in lines)
    known = {cells[at].strip('"\n'): line for cells, line in rows if len(cells) > at}
    return _Table(path, columns, separator, known)
