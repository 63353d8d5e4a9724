"""RxRx1: six stains of a site in six files, their names, and the sites in a folder.

Files are called as published, ``<experiment>/Plate<p>/<well>_s<site>_w<channel>.png``, such as
``HUVEC-01/Plate1/B02_s1_w3.png`` (https://www.rxrx.ai/rxrx1). Files that were taken out of their
folders are known by their names alone; they then belong to no experiment and no plate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.io.files import Seen, is_hidden, read_file
from napari_cellclf.io.naming import CHANNEL, Fields, NamingScheme
from napari_cellclf.io.planes import check_like, grey_plane
from napari_cellclf.io.rxrx1_names import (
    FILE_PATTERN,
    FilesInFolder,
    SiteName,
    is_site_file,
    is_site_folder,
    parse_folder,
    parse_path,
)
from napari_cellclf.io.rxrx1_stains import STAINS, Stain, stain_channels
from napari_cellclf.io.rxrx1_table import COLUMNS, Table, table_above

__all__ = [
    "STAINS",
    "SiteFiles",
    "SiteName",
    "Stain",
    "find_sites",
    "is_site_file",
    "is_site_folder",
    "parse_path",
    "read_channel",
    "read_site",
    "site_metadata",
    "site_of",
    "sites_metadata",
    "stain_channels",
]


class RxRx1Names(NamingScheme):
    """``HUVEC-01/Plate1/B02_s1_w3.png``: a file for each stain of a site."""

    name = "rxrx1"
    example = "HUVEC-01/Plate1/B02_s1_w3.png"

    def parse(self, path: PurePath) -> Fields | None:
        """Read experiment and plate off the folders, the rest off the name."""
        if not is_site_file(path.name):
            return None
        name = parse_path(path)
        says = {"experiment": name.experiment, "plate": name.plate}
        known = {key: value for key, value in says.items() if value is not None}
        return {**known, "well": name.well, "site": name.site, CHANNEL: name.channel}

    def channel_name(self, channel: str | int) -> str:
        """Name the published stain."""
        return STAINS[int(channel) - 1].name


RXRX1 = RxRx1Names()

#: From a data set's root down to a plate: images/train/HUVEC-01/Plate1.
_MAX_DEPTH = 4


@dataclass(frozen=True)
class SiteFiles:
    """The files of one site."""

    #: What their paths say; `channel` is that of the first one.
    name: SiteName
    #: Channel number to file, only those that exist, in order.
    files: Mapping[int, Path]

    @property
    def first(self) -> Path:
        """The file of the lowest channel, which stands for the site."""
        return next(iter(self.files.values()))

    @property
    def folder(self) -> Path:
        """The folder of that file."""
        return self.files.folder if isinstance(self.files, FilesInFolder) else self.first.parent

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that exist."""
        return tuple(STAINS[number - 1].name for number in self.files)

    @property
    def missing_channels(self) -> list[str]:
        """Names of the channels that do not exist."""
        return [stain.name for stain in STAINS if stain.number not in self.files]

    def _order(self, folder: str) -> tuple[str, int, str, int, str]:
        name = self.name
        return (name.experiment or "", name.plate or 0, name.well, name.site, folder)


def site_of(path: str | os.PathLike[str]) -> SiteFiles:
    """Find the files of the site that one file belongs to."""
    file = Path(path)
    name = parse_path(file)
    match = FILE_PATTERN.fullmatch(file.name)
    start, end = match.span(3) if match else (0, 0)
    files = {}
    for stain in STAINS:
        other = file.with_name(f"{file.name[:start]}{stain.number}{file.name[end:]}")
        if stain.number == name.channel or other.is_file():
            files[stain.number] = other
    return SiteFiles(name, files)


def find_sites(folder: str | os.PathLike[str]) -> list[SiteFiles]:
    """Find all sites below a folder: a plate, an experiment, or the whole data set."""
    sites = []
    for parent, names in _folders(Path(folder), _MAX_DEPTH, Seen()):
        sites += [(site._order(str(parent)), site) for site in _sites_in(parent, names)]
    return [site for _, site in sorted(sites, key=itemgetter(0))]


def _sites_in(folder: Path, names: Sequence[tuple[str, re.Match[str]]]) -> Iterator[SiteFiles]:
    experiment, plate = parse_folder(folder) if names else (None, None)
    found: dict[tuple[str, int], dict[int, str]] = {}
    for file_name, match in names:
        well, site, channel = match[1].upper(), int(match[2]), int(match[3])
        found.setdefault((well, site), {})[channel] = file_name
    for (well, site), files in found.items():
        ordered = dict(sorted(files.items()))
        name = SiteName(experiment, plate, well, site, next(iter(ordered)))
        yield SiteFiles(name, FilesInFolder(folder, ordered))


def _folders(
    folder: Path, depth: int, seen: Seen
) -> Iterator[tuple[Path, list[tuple[str, re.Match[str]]]]]:
    """Go over folders with the names in them that are RxRx1's; links after real folders."""
    names, below = [], []
    if not seen.is_new(folder):
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # No hidden name looks like this, and most names do.
                match = FILE_PATTERN.fullmatch(entry.name)
                if match is not None:
                    names.append((entry.name, match))
                elif depth > 0 and not is_hidden(entry.name) and entry.is_dir():
                    below.append((entry.is_symlink(), entry.name))
    except OSError:
        # A folder that may not be listed holds nothing for us.
        return
    yield folder, names
    for _, name in sorted(below):
        yield from _folders(folder / name, depth - 1, seen)


def site_metadata(site: SiteFiles) -> dict[str, Any]:
    """Say what is known of a site."""
    return sites_metadata([site])[0]


def sites_metadata(sites: Sequence[SiteFiles]) -> list[dict[str, Any]]:
    """Say what is known of many sites, looking for the table once for each folder."""
    tables = {folder: table_above(folder) for folder in {site.folder for site in sites}}
    return [_metadata(site, tables[site.folder]) for site in sites]


def _metadata(site: SiteFiles, table: Table) -> dict[str, Any]:
    name = site.name
    says = {
        "site_id": name.site_id,
        "well_id": name.well_id,
        "experiment": name.experiment,
        "plate": name.plate,
        "well": name.well,
        "site": name.site,
    }
    known = table.row(name.site_id)
    columns = {column: says.get(column, known.get(column)) for column in COLUMNS}
    return columns | {"missing_channels": site.missing_channels}


def read_site(site: SiteFiles, *, limit_bytes: int | None = None) -> Image:
    """Read all channels of a site.

    `limit_bytes`: bytes of decoded pixels allowed in each file.
    """
    planes = [read_channel(path, limit_bytes=limit_bytes) for path in site.files.values()]
    for path, plane in zip(site.files.values(), planes, strict=True):
        check_like(path, plane.shape, plane.dtype, site.first, planes[0].shape, planes[0].dtype)
    return Image(
        np.stack(planes),
        "CYX",
        site.channels,
        source=str(site.first),
        metadata=site_metadata(site),
    )


def read_channel(path: Path, *, limit_bytes: int | None = None) -> np.ndarray[Any, Any]:
    """Read the one plane of a file of a site.

    `limit_bytes`: bytes of decoded pixels allowed. Returns as stored.
    """
    return grey_plane(read_file(path, limit_bytes=limit_bytes), path)
