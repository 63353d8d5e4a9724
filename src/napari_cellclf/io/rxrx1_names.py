"""What the paths of RxRx1 files say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_cellclf.errors import NameParseError

#: Well, site and channel of a file name.
FILE_PATTERN = re.compile(r"([A-Z]{1,2}\d{2})_s(\d{1,2})_w([1-6])\.png", re.IGNORECASE)
_PLATE = re.compile(r"Plate_?(\d{1,3})", re.IGNORECASE)
_EXPERIMENT = re.compile(r"([A-Za-z][A-Za-z0-9]*)-(\d{1,3})")


@dataclass(frozen=True)
class SiteName:
    """What the path of a file says."""

    #: As published, the number with two digits (``HUVEC-01``, also where the folder is called
    #: ``HUVEC-1``); None if the folders do not say.
    experiment: str | None
    #: Number of the plate.
    plate: int | None
    #: Such as ``"B02"``.
    well: str
    #: Field in the well.
    site: int
    #: 1 to 6.
    channel: int

    @property
    def well_id(self) -> str | None:
        """RxRx1's name of the well, None where experiment or plate are not known."""
        if self.experiment is None or self.plate is None:
            return None
        return f"{self.experiment}_{self.plate}_{self.well}"

    @property
    def site_id(self) -> str | None:
        """RxRx1's name of the site, None where experiment or plate are not known."""
        return None if self.well_id is None else f"{self.well_id}_{self.site}"


class FilesInFolder(Mapping[int, Path]):
    """Files of one folder by channel.

    A plate has thousands of files, of which few paths are asked for; making all of them takes
    longer than listing them.
    """

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.folder = folder
        self._names = names

    def __getitem__(self, channel: int) -> Path:
        return self.folder / self._names[channel]

    def __contains__(self, channel: object) -> bool:
        return channel in self._names

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def is_site_file(name: str) -> bool:
    """Whether a file name is that of an RxRx1 image."""
    return FILE_PATTERN.fullmatch(name) is not None


def is_site_folder(name: str) -> bool:
    """Whether a folder is named like a plate or an experiment of RxRx1."""
    return bool(_PLATE.fullmatch(name) or _EXPERIMENT.fullmatch(name))


def parse_path(path: str | os.PathLike[str]) -> SiteName:
    """Read what the path of an RxRx1 file says; the file need not exist.

    Examples
    --------
    >>> parse_path("HUVEC-1/Plate2/B02_s1_w3.png").site_id
    'HUVEC-01_2_B02_1'
    """
    file = Path(path)
    match = FILE_PATTERN.fullmatch(file.name)
    if match is None:
        raise NameParseError(
            f"{file.name!r} is not named like an RxRx1 image; such names are "
            "<well>_s<site>_w<channel>.png with channels 1 to 6, such as B02_s1_w3.png"
        )
    experiment, plate = parse_folder(file.parent)
    well, site, channel = match.groups()
    return SiteName(experiment, plate, well.upper(), int(site), int(channel))


def parse_folder(folder: Path) -> tuple[str | None, int | None]:
    """Read what the folder of RxRx1 files says."""
    # A relative path may begin inside the plate's folder.
    if not folder.parent.name:
        folder = folder.resolve()
    plate, experiment = _PLATE.fullmatch(folder.name), _EXPERIMENT.fullmatch(folder.parent.name)
    if plate is None or experiment is None:
        return None, None
    return f"{experiment[1]}-{int(experiment[2]):02d}", int(plate[1])
