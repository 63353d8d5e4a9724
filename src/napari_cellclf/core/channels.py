"""Which channel is which: names, the ways people write them, and matching a model to an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from napari_cellclf.errors import ChannelMismatchError


class ChannelSpec(BaseModel):
    """One channel that a network expects.

    Parameters
    ----------
    name : str
        What it is called, such as ``"w1 Hoechst"``.
    aliases : tuple of str
        Other names under which the same channel is found, such as ``"DNA"`` or ``"DAPI"``.
    required : bool
        Whether the network needs it. A channel that is not required is filled with zeros after
        normalisation (the mean of a normalised channel) when an image lacks it, which is only
        right for a network that was trained with channel dropout.

    Examples
    --------
    >>> ChannelSpec(name="w1 Hoechst", aliases=("DNA",)).matches("dna")
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    required: bool = True

    def matches(self, name: str) -> bool:
        """Whether `name` means this channel: the same words in any case and punctuation.

        Parameters
        ----------
        name : str
            A channel's or a layer's name.

        Returns
        -------
        bool
            True if one of this channel's names stands in `name` as whole words.
        """
        return any(_contains(name, mine) for mine in (self.name, *self.aliases))


@dataclass(frozen=True)
class ChannelMapping:
    """For each channel a network expects, the index of the image's channel that feeds it.

    Parameters
    ----------
    sources : tuple of (int or None)
        As long as the expected channels; None where the image has no such channel.
    expected : tuple of str
        Names of the expected channels, in the network's order.
    """

    sources: tuple[int | None, ...]
    expected: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the expected channels that the image lacks."""
        pairs = zip(self.expected, self.sources, strict=True)
        return tuple(name for name, source in pairs if source is None)


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


def _contains(name: str, wanted: str) -> bool:
    inside, sought = words(name), words(wanted)
    if not sought:
        return False
    length = len(sought)
    return any(inside[i : i + length] == sought for i in range(len(inside) - length + 1))


def match_channels(
    expected: Sequence[ChannelSpec],
    available: Sequence[str],
    overrides: Mapping[str, str | None] | None = None,
) -> ChannelMapping:
    """Find for each expected channel the one among `available` that is meant.

    Names decide. Only where the image's channels carry no names at all (all empty) and are as
    many as the network expects are they taken in order, since then there is nothing else to go by.
    A network of a single channel takes a single channel, whatever its name.

    Parameters
    ----------
    expected : sequence of ChannelSpec
        What the network expects, in order.
    available : sequence of str
        Names of the image's channels, in order; an empty string where a channel has no name.
    overrides : mapping of str to (str or None), optional
        For expected channels by name, the image's channel to use, or None to leave it out.

    Returns
    -------
    ChannelMapping
        The sources, None where nothing matches. Whether that can be accepted is for
        `require_channels` to say.

    Raises
    ------
    ChannelMismatchError
        If `overrides` names a channel that does not exist on either side, or two of the image's
        channels match equally well.

    Examples
    --------
    >>> match_channels([ChannelSpec(name="DNA"), ChannelSpec(name="actin")], ["Actin", "dna"])
    ChannelMapping(sources=(1, 0), expected=('DNA', 'actin'))
    """
    names = tuple(spec.name for spec in expected)
    overrides = dict(overrides or {})
    _check_overrides(overrides, names, available)
    if not overrides and (len(expected) == len(available) == 1 or _nameless(expected, available)):
        return ChannelMapping(tuple(range(len(expected))), names)
    sources = tuple(
        _override(overrides[spec.name], available)
        if spec.name in overrides
        else _find(spec, available)
        for spec in expected
    )
    return ChannelMapping(sources, names)


def require_channels(expected: Sequence[ChannelSpec], mapping: ChannelMapping) -> None:
    """Refuse a mapping that leaves a required channel, or every channel, without a source.

    Parameters
    ----------
    expected : sequence of ChannelSpec
        What the network expects.
    mapping : ChannelMapping
        What was found.

    Raises
    ------
    ChannelMismatchError
        Naming the channels that are missing.
    """
    pairs = list(zip(expected, mapping.sources, strict=True))
    lacking = [spec.name for spec, source in pairs if spec.required and source is None]
    if not lacking and all(source is None for _, source in pairs):
        lacking = [spec.name for spec in expected]
    if lacking:
        raise ChannelMismatchError(
            f"the image has no channel for {', '.join(lacking)}; say which of its channels to use "
            "for each in the channel mapping"
        )


def _nameless(expected: Sequence[ChannelSpec], available: Sequence[str]) -> bool:
    return len(available) == len(expected) and not any(available)


def _check_overrides(
    overrides: Mapping[str, str | None], names: Sequence[str], available: Sequence[str]
) -> None:
    for wanted, source in overrides.items():
        if wanted not in names:
            raise ChannelMismatchError(
                f"the mapping names channel {wanted!r}, but the model expects {', '.join(names)}"
            )
        if source is not None and source not in available:
            raise ChannelMismatchError(
                f"the mapping asks for the image's channel {source!r}, but it has "
                f"{', '.join(available) or 'none'}"
            )


def _override(source: str | None, available: Sequence[str]) -> int | None:
    return None if source is None else list(available).index(source)


def _find(spec: ChannelSpec, available: Sequence[str]) -> int | None:
    """Prefer the same name, then the full name inside a longer one, then an alias."""
    tests = (
        lambda name: words(name) == words(spec.name),
        lambda name: _contains(name, spec.name),
        spec.matches,
    )
    for test in tests:
        hits = [index for index, name in enumerate(available) if test(name)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            found = ", ".join(available[index] for index in hits)
            raise ChannelMismatchError(
                f"channel {spec.name!r} could be any of {found}; say which in the channel mapping"
            )
    return None
