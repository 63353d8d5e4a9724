"""What channels are called: comparing names, and naming those that have none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_cellclf.errors import ChannelMismatchError


def words(name: str) -> tuple[str, ...]:
    """Split a name into lower-case words, digits kept with their letters.

    Parameters
    ----------
    name : str
        Any name.

    Returns
    -------
    tuple of str
        Its words.

    Examples
    --------
    >>> words("B02_s1 [w1-Hoechst]")
    ('b02', 's1', 'w1', 'hoechst')
    """
    return tuple(re.findall(r"[^\W_]+", name.lower()))


def contains(name: str, wanted: str) -> bool:
    """Whether the words of one name stand in another, in order and side by side.

    Parameters
    ----------
    name : str
        Any name.
    wanted : str
        The shorter one; one without words stands in none.

    Returns
    -------
    bool
        True for ``contains("B02 w1 Hoechst", "W1-hoechst")``.
    """
    inside, sought = words(name), words(wanted)
    if not sought:
        return False
    length = len(sought)
    return any(inside[i : i + length] == sought for i in range(len(inside) - length + 1))


def position_of(source: str, available: Sequence[str]) -> int:
    """Find a channel of the image by its name or, where it has none, by its number.

    Parameters
    ----------
    source : str
        A name; or ``"2"``, or ``"channel 2"``, for the second channel if that has no name.
    available : sequence of str
        Names of the image's channels; an empty string where a channel has none.

    Returns
    -------
    int
        Its index.

    Raises
    ------
    ChannelMismatchError
        Naming the channels there are.
    """
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
    """Say which channels an image has.

    Parameters
    ----------
    available : sequence of str
        Their names; an empty string where a channel has none.

    Returns
    -------
    str
        Such as ``"DNA, channel 2"``.
    """
    names = (name or f"channel {number}" for number, name in enumerate(available, start=1))
    return ", ".join(names) or "none"


def remedy(name: str) -> str:
    """Say how a user tells which channel to take.

    Parameters
    ----------
    name : str
        The model's channel.

    Returns
    -------
    str
        The end of a sentence, with the form of Python and of the command line.
    """
    return (
        f"say which to use with mapping={{{name!r}: ...}} in Python, or with "
        f'--channels "{name}=..." on the command line'
    )
