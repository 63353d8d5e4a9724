"""Embryo time lapses whose file names say when each image was taken.

``Stage(060)-20230811-Cycle00-embryo03-3.tif`` is minute 60, the date, the cycle of acquisition, the
embryo and the slice. Copies made from it carry what was done behind that, in any order, case and
number: ``-MULTIPLIED-7`` (pixels times 7, saturated), ``-ROTATED-90`` (degrees; also
``-ROTATE-90``, ``-rot90``). A bare number of degrees (``-90``) behind the slice is a rotation too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from napari_cellclf.core.image import Image
from napari_cellclf.errors import NameParseError, NoImagesError
from napari_cellclf.io.files import is_hidden, read_file
from napari_cellclf.io.naming import Fields, NamingScheme
from napari_cellclf.io.planes import collapse_grey

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


@dataclass(frozen=True, order=True)
class EmbryoName:
    """What the name of an embryo's image says; sorts by time."""

    #: Minutes since the movie's reference point.
    minute: int
    #: As in the name, ``"20230811"``.
    date: str
    cycle: int
    embryo: int
    slice: int
    #: Degrees by which the image was turned, 0 to 359.
    rotation: int = 0
    #: Number that its pixels were multiplied with.
    factor: int = 1

    @property
    def group(self) -> str:
        """The one embryo that images are of, whatever was done to them.

        Images of one group must never be on both sides of a split.
        """
        return f"{self.date}-Cycle{self.cycle:02d}-embryo{self.embryo:02d}"

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything the name says, for `Image.metadata`."""
        return {
            "minute": self.minute,
            "date": self.date,
            "cycle": self.cycle,
            "embryo": self.embryo,
            "slice": self.slice,
            "rotation": self.rotation,
            "factor": self.factor,
            "group": self.group,
        }


class EmbryoNames(NamingScheme):
    """``Stage(060)-20230811-Cycle00-embryo03-3.tif``: one image of an embryo at a minute."""

    name = "drosophila"
    example = "Stage(060)-20230811-Cycle00-embryo03-3.tif"

    def parse(self, path: PurePath) -> Fields | None:
        """Read all that the name says."""
        return parse_name(path).metadata if is_embryo_file(path.name) else None


DROSOPHILA = EmbryoNames()


def is_embryo_file(name: str) -> bool:
    """Whether a file name says minute and embryo."""
    if is_hidden(name):
        return False
    try:
        parse_name(name)
    except NameParseError:
        return False
    return True


def parse_name(name: str | os.PathLike[str]) -> EmbryoName:
    """Read what the name of an embryo's image says.

    Examples
    --------
    >>> parsed = parse_name("Stage(060)-20230811-Cycle00-embryo03-3-MULTIPLIED-7.tif")
    >>> parsed.minute, parsed.embryo, parsed.factor, parsed.group
    (60, 3, 7, '20230811-Cycle00-embryo03')
    """
    base = Path(name).name
    match = _NAME.fullmatch(base)
    done = _steps(match["derived"]) if match else None
    if match is None or done is None:
        raise NameParseError(
            f"{base!r} is not named like an embryo's image; such names are "
            "Stage(<minute>)-<date>-Cycle<nn>-embryo<nn>-<slice>.tif"
        )
    rotation, factor = done
    numbers = {key: int(match[key]) for key in ("minute", "cycle", "embryo", "slice")}
    return EmbryoName(date=match["date"], rotation=rotation % 360, factor=factor, **numbers)


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


def read_embryo(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> Image:
    """Read one image of an embryo.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    name = parse_name(path)
    image = collapse_grey(read_file(path, limit_bytes=limit_bytes))
    return replace(image, metadata={**image.metadata, **name.metadata})


def find_frames(folder: str | os.PathLike[str]) -> list[tuple[EmbryoName, Path]]:
    """List the images of embryos that lie in a folder, in order of time.

    Returns by minute, then date, cycle, embryo, slice and what was done to them.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if is_embryo_file(entry.name)]
    except OSError as error:
        raise NoImagesError(f"the folder {folder} cannot be listed: {error.strerror}") from error
    return sorted((parse_name(name), Path(folder, name)) for name in names)
