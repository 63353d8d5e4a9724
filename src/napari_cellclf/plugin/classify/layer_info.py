"""What has to be known of an image layer, without napari or Qt."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

#: What axes are called, by people and by programs, and the letter that is meant.
_LETTERS = {
    "c": "C",
    "channel": "C",
    "channels": "C",
    "t": "T",
    "time": "T",
    "frame": "T",
    "z": "Z",
    "depth": "Z",
    "plane": "Z",
    "p": "P",
    "position": "P",
    "scene": "P",
    "site": "P",
    "well": "P",
}
#: Letters for axes of which nothing is known.
_UNKNOWN = "IJKLMNOQRUVW"


@dataclass(frozen=True)
class LayerInfo:
    """What has to be known of an image layer to decide about it.

    Parameters
    ----------
    key : hashable
        The layer's identity.
    name : str
        Its name in the layer list.
    shape : tuple of int
        Of its data at full resolution, with the samples of RGB.
    rgb : bool
        Whether the last axis holds samples of RGB.
    axis_labels : tuple of str
        One for each axis but RGB samples; napari's own defaults are numbers.
    metadata : dict
        What this package's reader wrote, see `napari_cellclf.plugin.layers`; empty for others.
    path : str, optional
        The file that napari read the layer from.
    """

    key: Hashable
    name: str
    shape: tuple[int, ...]
    rgb: bool = False
    axis_labels: tuple[str, ...] = ()
    metadata: tuple[tuple[str, Any], ...] = ()
    path: str | None = None

    def known(self, name: str) -> Any:
        """Return an entry of the reader's metadata, None where there is none."""
        return dict(self.metadata).get(name)


def layer_axes(layer: LayerInfo) -> str:
    """Name the axes of a layer from its labels.

    Parameters
    ----------
    layer : LayerInfo
        Any.

    Returns
    -------
    str
        One letter for each axis; the last two are ``YX`` (before the ``S`` of RGB).

    Examples
    --------
    >>> layer_axes(LayerInfo(1, "a", (5, 3, 64, 64), axis_labels=("time", "c", "y", "x")))
    'TCYX'
    >>> layer_axes(LayerInfo(1, "a", (5, 64, 64), axis_labels=("-3", "-2", "-1")))
    'IYX'
    """
    return fill(known_letters(layer))


def known_letters(layer: LayerInfo) -> list[str]:
    """Name those axes of a layer of which something is known.

    Parameters
    ----------
    layer : LayerInfo
        Any.

    Returns
    -------
    list of str
        A letter for each axis, empty strings where nothing is known.
    """
    known = layer.known("axes")
    n_axes = len(layer.shape) - layer.rgb
    if known and len(known) == n_axes:
        return [*known, *("S" * layer.rgb)]
    labels = layer.axis_labels if len(layer.axis_labels) == n_axes else ("",) * n_axes
    letters: list[str] = []
    for label in labels[:-2]:
        letter = _LETTERS.get(label.strip().lower(), "")
        taken = letter in letters or (letter == "C" and layer.rgb)
        letters.append("" if taken else letter)
    return [*letters, "Y", "X", *("S" * layer.rgb)]


def fill(letters: Sequence[str]) -> str:
    """Name the remaining axes with letters that mean nothing.

    Parameters
    ----------
    letters : sequence of str
        With empty strings for these axes.

    Returns
    -------
    str
        One letter for each axis, all different.

    Examples
    --------
    >>> fill(["", "T", "Y", "X"])
    'ITYX'
    """
    unused = iter(letter for letter in _UNKNOWN if letter not in letters)
    return "".join(letter or next(unused) for letter in letters)
