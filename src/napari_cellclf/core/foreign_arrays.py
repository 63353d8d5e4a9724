"""Arrays of other libraries: what they say of themselves is used, and what numpy would lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_cellclf.errors import AxesError, ImageError

#: What axes are called, by people and by programs, and the letter that is meant.
AXIS_LETTERS = {
    "y": "Y",
    "row": "Y",
    "rows": "Y",
    "height": "Y",
    "x": "X",
    "col": "X",
    "column": "X",
    "columns": "X",
    "width": "X",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "channels": "C",
    "stain": "C",
    "wavelength": "C",
    "s": "S",
    "rgb": "S",
    "band": "S",
    "t": "T",
    "time": "T",
    "frame": "T",
    "z": "Z",
    "depth": "Z",
    "plane": "Z",
    "slice": "Z",
    "p": "P",
    "position": "P",
    "scene": "P",
    "site": "P",
    "well": "P",
}
#: Letters for axes of which nothing is known.
UNKNOWN_LETTERS = "IJKLMNOQRUVW"


def plain_array(data: Any) -> Any:
    """Return pixels as numpy or as something that is read when it is sliced, such as dask.

    Examples
    --------
    >>> plain_array(np.ma.masked_array([[1, 2]], [[False, False]]))
    array([[1, 2]])
    """
    if isinstance(data, np.ma.MaskedArray):
        hidden = int(np.ma.getmaskarray(data).sum())
        if hidden:
            raise ImageError(
                f"{hidden} pixels of the array are masked; say what stands there with "
                "array.filled(...), or cut them off"
            )
        return data.data
    if has_named_axes(data):
        return plain_array(data.data)
    if hasattr(data, "toarray"):
        return data.toarray()  # a sparse matrix of SciPy
    if hasattr(data, "numpy"):
        return _of_tensor(data)
    return data


def has_named_axes(array: Any) -> bool:
    """Whether an array names its dimensions, as xarray's do."""
    return hasattr(array, "dims") and hasattr(array, "coords")


def axes_and_channels(array: Any) -> tuple[str, tuple[str, ...]]:
    """Return the axes of an array with named dimensions, and the names along its channels."""
    dims = [str(dim) for dim in array.dims]
    found = [AXIS_LETTERS.get(dim.strip().lower(), "") for dim in dims]
    named = [letter for letter in found if letter]
    if len(set(named)) < len(named) or not {"Y", "X"} <= set(named):
        raise AxesError(
            f"the dimensions {', '.join(dims)} of the array do not say which are y and x; rename "
            "them with array.rename, so that one is called y and one x"
        )
    axes = fill_axes(found)
    if "C" not in axes:
        return axes, ()
    dim = array.dims[axes.index("C")]
    values = np.asarray(array.coords[dim].values) if dim in array.coords else np.arange(0)
    says_names = values.dtype.kind in "OUST"
    return axes, tuple(str(value) for value in values) if says_names else ()


def fill_axes(letters: Sequence[str]) -> str:
    """Name the remaining axes with letters that mean nothing.

    Examples
    --------
    >>> fill_axes(["", "T", "Y", "X"])
    'ITYX'
    """
    unused = iter(letter for letter in UNKNOWN_LETTERS if letter not in letters)
    return "".join(letter or next(unused) for letter in letters)


def _of_tensor(tensor: Any) -> Any:
    """Copy a tensor of PyTorch or TensorFlow to the processor's memory, without its gradients."""
    detached = tensor.detach().cpu() if hasattr(tensor, "detach") else tensor
    try:
        pixels = np.asarray(detached)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(
            f"a {type(tensor).__name__} of {tensor.dtype} cannot be read as an array; convert it "
            "with .float() or tf.cast first"
        ) from error
    return pixels
