"""Licence, authors, name and citation in the forms that the specification takes."""

from __future__ import annotations

import re

from pydantic import ValidationError

from napari_cellclf.errors import ExportError
from napari_cellclf.models.export.extras import export_library

#: What the specification lets a name hold, and its shortest and longest.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_+\-() ]+")
_SHORTEST, _LONGEST = 5, 128
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s,;]*[^\s,;.]")
_ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)


def spdx_licence(words: str, given: str | None) -> str:
    """Find the SPDX identifier of a licence."""
    # What follows a comma, a colon or a bracket explains.
    said = re.split(r"[,;:(]", words if given is None else given)[0].strip().rstrip(".")
    dashed = re.sub(r"\s+", "-", said)
    found = next(filter(_is_spdx, (said, dashed, dashed.upper())), None)
    if found is not None:
        return found
    received = repr(said[:80]) if said else "nothing"
    raise ExportError(
        f"a bioimage.io package needs the SPDX identifier of its licence, but {received} was "
        "found; say it with licence='CC-BY-4.0' or the like (--licence on the command line)"
    )


def authors(lines: tuple[str, ...]) -> list[dict[str, str]]:
    """Write authors as the specification wants them."""
    if not lines:
        raise ExportError(
            "a bioimage.io package names its authors; say them with authors=['Name, Affiliation'] "
            "(--author on the command line)"
        )
    made = []
    for line in lines:
        name, _, affiliation = (part.strip() for part in line.partition(","))
        if not name or "/" in name or "\\" in name:
            raise ExportError(f"{line!r} names no author; write it as 'Name, Affiliation'")
        made.append({"name": name} | ({"affiliation": affiliation} if affiliation else {}))
    return made


def name(title: str) -> str:
    """Make a name of the letters that the specification allows.

    Examples
    --------
    >>> name("w1/#"), name("RxRx1 cell type")
    ('w1 classifier', 'RxRx1 cell type')
    """
    plain = " ".join(_NOT_IN_NAMES.sub(" ", title).split())[:_LONGEST].strip()
    return plain if len(plain) >= _SHORTEST else f"{plain} classifier".strip()


def citations(text: str) -> list[dict[str, str]]:
    """Write a citation that names a DOI or an arXiv number; others stay in the documentation."""
    # arXiv registers a DOI for each of its papers.
    doi = _DOI.search(_ARXIV.sub(r"10.48550/arXiv.\1", text))
    if doi is None:
        return []
    return [{"text": text, "doi": doi.group()}]


def _is_spdx(name: str) -> bool:
    try:
        export_library("bioimageio.spec.model.v0_5").LicenseId(name)
    except ValidationError:
        return False
    return True
