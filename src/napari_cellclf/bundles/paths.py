"""Where a bundle lies, and what a path to one may look like."""

from __future__ import annotations

import re
from pathlib import Path

from napari_cellclf.bundles.kinds import IMPORT, refuse_other_kinds
from napari_cellclf.errors import BundleError, ModelNotFoundError, UnsafeModelError
from napari_cellclf.io.home import expanded

SUFFIX = ".cellclf"

# Two letters at least, so that a Windows drive is not taken for a scheme; one slash, because
# Path makes one of two.
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")


def refuse_urls(path: str | Path) -> None:
    """Refuse what looks like an address on a network."""
    if _URL.match(str(path)):
        raise UnsafeModelError(
            f"{str(path)!r} is an address, and models are read from files only; fetch it first "
            "with: cellclf models fetch ADDRESS --sha256 HEX"
        )


def previous_path(path: Path) -> Path:
    """Return where an older bundle stands for the moment in which a newer one replaces it."""
    return path.parent / f".{path.name}.previous"


def checked_path(path: str | Path) -> Path:
    """Return the path of a bundle that exists."""
    refuse_urls(path)
    if not str(path).strip():
        raise ModelNotFoundError("no model was named; give the path of one")
    found = expanded(path)
    if not found.exists() and previous_path(found).exists():
        return previous_path(found)
    if not found.exists():
        raise ModelNotFoundError(f"there is no model at {found}; check the path")
    refuse_other_kinds(found)
    if not found.is_dir() and found.suffix.lower() == ".keras":
        raise BundleError(
            f"{found.name} is a network without its preprocessing and classes; say them once and "
            f"make a model of it with {IMPORT} {found.name}"
        )
    return found
