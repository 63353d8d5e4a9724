"""The six stains of RxRx1: how to show them, and under which names else they are found."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.stains import STAINS as STAIN_NAMES


@dataclass(frozen=True)
class Stain:
    """One of the six stains."""

    #: 1 to 6, as in ``w1``.
    number: int
    #: Such as ``"w1 Hoechst"``.
    name: str
    #: Name of a napari colormap near the colour in which the publisher shows it.
    colormap: str
    #: Other names under which laboratories keep such a channel.
    aliases: tuple[str, ...]


#: Colours as in the publisher's own display code (rxrx1-utils, rxrx/io.py, RGB_MAP).
_COLORMAPS = ("blue", "green", "red", "cyan", "magenta", "yellow")
_ALIASES = (
    ("w1", "Hoechst", "Hoechst 33342", "DNA", "DAPI", "nuclei", "nucleus"),
    ("w2", "ConA", "concanavalin A", "ER", "endoplasmic reticulum"),
    ("w3", "phalloidin", "actin"),
    ("w4", "Syto14", "Syto 14", "RNA", "nucleoli"),
    ("w5", "MitoTracker", "mito", "mitochondria"),
    ("w6", "WGA", "wheat germ agglutinin", "Golgi", "membrane"),
)
STAINS: tuple[Stain, ...] = tuple(
    Stain(number, name, colormap, aliases)
    for number, name, colormap, aliases in zip(
        range(1, 7), STAIN_NAMES, _COLORMAPS, _ALIASES, strict=True
    )
)


def stain_channels(optional: Collection[int] = ()) -> tuple[ChannelSpec, ...]:
    """Describe the six stains as channels that a network expects.

    `optional`: numbers of the stains that an image may lack, such as ``(5, 6)``.

    Examples
    --------
    >>> channels = stain_channels(optional=(5, 6))
    >>> channels[0].matches("DAPI"), channels[5].required
    (True, False)
    """
    return tuple(
        ChannelSpec(name=stain.name, aliases=stain.aliases, required=stain.number not in optional)
        for stain in STAINS
    )
