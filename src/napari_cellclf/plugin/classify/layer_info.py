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
    """What has to be known of an image layer to decide about it."""

    #: The layer's identity.
    key: Hashable
    #: Its name in the layer list.
    name: str
    #: Of its data at full resolution, with the samples of RGB.
    shape: tuple[int, ...]
    #: Whether the last axis holds samples of RGB.
    rgb: bool = False
    #: One for each axis but RGB samples; napari's own defaults are numbers.
    axis_labels: tuple[str, ...] = ()
    #: What this package's reader wrote, see `napari_cellclf.plugin.layers`; empty for others.
    metadata: tuple[tuple[str, Any], ...] = ()
    #: The file that napari read the layer from.
    path: str | None = None

    def known(self, name: str) -> Any:
        """Return an entry of the reader's metadata, None where there is none."""
        return dict(self.metadata).get(name)


def layer_axes(layer: LayerInfo) -> str:
    """Name the axes of a layer from its labels.

    Examples
    --------
    >>> layer_axes(LayerInfo(1, "a", (5, 3, 64, 64), axis_labels=("time", "c", "y", "x")))
    'TCYX'
    >>> layer_axes(LayerInfo(1, "a", (5, 64, 64), axis_labels=("-3", "-2", "-1")))
    'IYX'
    """
    return fill(known_letters(layer))


def known_letters(layer: LayerInfo) -> list[str]:
    """Name those axes of a layer of which something is known."""
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

    Examples
    --------
    >>> fill(["", "T", "Y", "X"])
    'ITYX'
    """
    unused = iter(letter for letter in _UNKNOWN if letter not in letters)
    return "".join(letter or next(unused) for letter in letters)
