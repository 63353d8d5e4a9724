"""What channels are called: comparing names, and naming those that have none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_cellclf.errors import ChannelMismatchError


def words(name: str) -> tuple[str, ...]:
    """Split a name into lower-case words, digits kept with their letters.

    Examples
    --------
    >>> words("B02_s1 [w1-Hoechst]")
    ('b02', 's1', 'w1', 'hoechst')
    """
    return tuple(re.findall(r"[^\W_]+", name.lower()))


def contains(name: str, wanted: str) -> bool:
    """Whether the words of one name stand in another, in order and side by side."""
    inside, sought = words(name), words(wanted)
    if not sought:
        return False
    length = len(sought)
    return any(inside[i : i + length] == sought for i in range(len(inside) - length + 1))


def position_of(source: str, available: Sequence[str]) -> int:
    """Find a channel of the image by its name or, where it has none, by its number."""
    if source in available and source:
        return list(available).index(source)
    number = source.lower().removeprefix("channel").strip()
    if number.isascii() and number.isdigit() and 0 < int(number) <= len(available):
        index = int(number) - 1
        if not available[index]:
            return index
    raise ChannelMismatchError(
        f"the mapping asks for the image's channel {source!r}, but it has {listed(available)}; "
        "use one of those"
    )


def listed(available: Sequence[str]) -> str:
    """Say which channels an image has."""
    names = (name or f"channel {number}" for number, name in enumerate(available, start=1))
    return ", ".join(names) or "none"


def remedy(name: str) -> str:
    """Say how a user tells which channel to take."""
    return (
        f"say which to use with mapping={{{name!r}: ...}} in Python, or with "
        f'--channels "{name}=..." on the command line'
    )
