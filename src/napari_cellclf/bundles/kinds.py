"""Files and folders that hold a network but are no bundle: what they are, and the way to one."""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.bundles.plainfile import open_plain, read_up_to
from napari_cellclf.errors import UnsafeModelError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_HDF5 = (".h5", ".hdf5")
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
#: The way of a network in a `.keras` file into a bundle.
IMPORT = "cellclf models import"


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
