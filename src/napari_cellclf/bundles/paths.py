"""Paths to models: which are bundles, and how other kinds of model become one."""

from __future__ import annotations

import re
from pathlib import Path

from napari_cellclf.bundles.plainfile import open_plain, read_up_to
from napari_cellclf.errors import BundleError, ModelNotFoundError, UnsafeModelError
from napari_cellclf.io.local_paths import expanded

SUFFIX = ".cellclf"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_HDF5 = (".h5", ".hdf5")
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
#: The way of a network in a `.keras` file into a bundle.
IMPORT = "cellclf models import"

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


def refuse_other_kinds(path: Path) -> None:
    """Refuse a model of a kind that may run code when it is opened, and say how to convert it.

    `path`: A file or folder that exists; only the first bytes of a file are read.
    """
    if path.is_dir():
        if any((path / member).is_file() for member in _SAVED_MODEL):
            raise UnsafeModelError(
                f"{path.name} is a SavedModel folder, which may hold code; {_convert(path)}"
            )
        return
    suffix, start = path.suffix.lower(), start_of(path)
    if suffix in _HDF5 or (start == HDF5_MAGIC and suffix != ".keras"):
        raise UnsafeModelError(
            f"{path.name} is an HDF5 file of an older Keras, which may hold code; {_convert(path)}"
        )
    if start[:1] == b"\x80" or suffix in _PICKLES:
        raise UnsafeModelError(
            f"{path.name} is a pickle, which runs code when it is opened; where you trust it, open "
            "it in the program that made it, build the same network in Keras 3 with its weights, "
            f"save that as .keras and bring it in with {IMPORT}"
        )


def start_of(path: Path) -> bytes:
    """Read the first bytes of a plain file, which tell what it is.

    Returns as many as an HDF5 file begins with.
    """
    with open_plain(path) as handle:
        return read_up_to(handle, len(HDF5_MAGIC), path.name)


def _convert(path: Path) -> str:
    return (
        f"where you trust it, run keras.models.load_model({path.name!r}).save('new.keras') in "
        f"the version of Keras that made it, and bring new.keras in with {IMPORT}"
    )
