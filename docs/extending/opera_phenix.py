"""File names of Opera Phenix and Operetta: ``r01c02f03p01-ch4sk1fk1fl1.tiff``."""

from __future__ import annotations

import re
from pathlib import PurePath

from napari_cellclf.io.naming import Fields, NamingScheme

# Row, column, field of view and plane; then channel, timepoint, fluorescence state and flim number.
_NAME = re.compile(
    r"r(?P<row>\d{2})c(?P<column>\d{2})f(?P<site>\d{2,})p(?P<plane>\d{2,})"
    r"-ch(?P<channel>\d+)sk(?P<time>\d+)fk\d+fl\d+\.tiff?",
    re.IGNORECASE,
)


class OperaPhenix(NamingScheme):
    """A file for each channel of a field of view; wells keep images together in a split."""

    name = "opera-phenix"
    example = "Images/r01c02f03p01-ch4sk1fk1fl1.tiff"
    globs = ("r*c*f*p*-ch*.tif", "r*c*f*p*-ch*.tiff")
    groups = ("well",)

    def parse(self, path: PurePath) -> Fields | None:
        """Read well (such as ``A02``), site, plane, time and channel."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            return None
        row, column = int(match["row"]), int(match["column"])
        letters = chr(ord("A") + row - 1) if row <= 26 else "A" + chr(ord("A") + row - 27)
        numbers = {key: int(match[key]) for key in ("site", "plane", "time", "channel")}
        return {"well": f"{letters}{column:02d}", **numbers}


OPERA_PHENIX = OperaPhenix()
