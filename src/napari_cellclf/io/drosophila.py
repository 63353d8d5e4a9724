"""Embryo time lapses whose file names say when each image was taken.

``Stage(060)-20230811-Cycle00-embryo03-3.tif`` is minute 60, the date, the cycle of acquisition, the
embryo and the slice. Copies made from it carry what was done behind that, in any order, case and
number: ``-MULTIPLIED-7`` (pixels times 7, saturated), ``-ROTATED-90`` (degrees; also
``-ROTATE-90``, ``-rot90``). A bare number of degrees (``-90``) behind the slice is a rotation too.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from napari_cellclf.io.naming import Fields, NamingScheme

_NAME = re.compile(
    r"Stage\((?P<minute>\d{1,5})\)-(?P<date>\d{8})-Cycle(?P<cycle>\d{1,4})-embryo(?P<embryo>\d{1,4})"
    r"-(?P<slice>\d{1,4})(?P<derived>(?:[-_].+)?)\.(?:tiff?|png|jpe?g)",
    re.IGNORECASE,
)
_STEP = re.compile(
    r"[-_](?:(?P<multiplied>MULTIPLIED|MULT)[-_]?(?P<factor>\d{1,3})"
    r"|(?:ROTATED|ROTATE|ROT)?[-_]?(?P<degrees>\d{1,3})(?:deg)?)",
    re.IGNORECASE,
)


class EmbryoNames(NamingScheme):
    """``Stage(060)-20230811-Cycle00-embryo03-3.tif``: one image of an embryo at a minute."""

    name = "drosophila"
    example = "Stage(060)-20230811-Cycle00-embryo03-3.tif"
    # npe2 lower-cases a pattern but not the name it is held against, hence the "?" for the "S".
    globs = ("?tage([0-9]*)-*.tif", "?tage([0-9]*)-*.tiff", "?tage([0-9]*)-*.png")
    # Of one embryo, whatever was done to its images.
    groups = ("date+cycle+embryo",)
    label = "minute"
    label_unit = "minute"
    label_range = (51, 204)
    stack_axis = "T"

    def parse(self, path: PurePath) -> Fields | None:
        """Read all that the name says: by minute first, which is the order of a movie."""
        match = _NAME.fullmatch(path.name)
        done = _steps(match["derived"]) if match else None
        if match is None or done is None:
            return None
        rotation, factor = done
        cycle, embryo = int(match["cycle"]), int(match["embryo"])
        return {
            "minute": int(match["minute"]),
            "date": match["date"],
            "cycle": cycle,
            "embryo": embryo,
            "slice": int(match["slice"]),
            "rotation": rotation % 360,
            "factor": factor,
            "group": f"{match['date']}-Cycle{cycle:02d}-embryo{embryo:02d}",
        }

    def class_name(self, label: str | int) -> str:
        """Write a minute with three digits, as in the names."""
        return f"{int(label):03d}"


DROSOPHILA = EmbryoNames()


def _steps(derived: str) -> tuple[int, int] | None:
    """Read what was done to a copy: degrees in all, and the product of factors."""
    rotation, factor, position = 0, 1, 0
    while position < len(derived):
        step = _STEP.match(derived, position)
        if step is None:
            return None
        if step["multiplied"]:
            factor *= int(step["factor"])
        else:
            rotation += int(step["degrees"])
        position = step.end()
    return rotation, factor
