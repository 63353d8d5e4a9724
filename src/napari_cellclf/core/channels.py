"""Which channel is which: names, the ways people write them, and matching a model to an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from napari_cellclf.core.image import GREY, RGB_NAMES
from napari_cellclf.errors import ChannelMismatchError, InputError

#: Words of names that programs give, with their numbers.
_NUMBERED = re.compile(r"(c|ch|chan|channel|image|img|gr[ae]y|intensity|layer)?\d{0,2}")


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


def match_channels(
    expected: Sequence[ChannelSpec],
    available: Sequence[str],
    overrides: Mapping[str, str | None] | None = None,
) -> ChannelMapping:
    """Find for each expected channel the one among `available` that is meant.

    Names decide. Only where the image's channels carry no names at all (all empty) and are as
    many as the network expects are they taken in order, since then there is nothing else to go by.
    A network of a single channel takes a single channel, unless both have names that differ. Grey
    that was saved in colours is each of its colours.

    Examples
    --------
    >>> match_channels([ChannelSpec(name="DNA"), ChannelSpec(name="actin")], ["Actin", "dna"])
    ChannelMapping(sources=(1, 0), expected=('DNA', 'actin'))
    """
    names = tuple(spec.name for spec in expected)
    chosen = {
        wanted: None if source is None else _position_of(source, available)
        for wanted, source in name_overrides(expected, overrides or {}).items()
    }
    single = len(expected) == len(available) == 1 and (
        says_nothing(expected[0].name) or says_nothing(available[0])
    )
    if not chosen and (single or taken_in_order(expected, available)):
        return ChannelMapping(tuple(range(len(expected))), names)
    sources = tuple(
        chosen[spec.name] if spec.name in chosen else _find(spec, available) for spec in expected
    )
    return ChannelMapping(sources, names)


def missing_message(expected: Sequence[ChannelSpec], mapping: ChannelMapping) -> str:
    """Say which channels an image lacks and what follows; empty if it lacks none.

    Examples
    --------
    >>> dna, actin = ChannelSpec(name="DNA"), ChannelSpec(name="actin", required=False)
    >>> missing_message([dna, actin], match_channels([dna, actin], ["DNA", "GFP"]))
    'the image has no channel for actin; the model can do without'
    """
    if not mapping.missing:
        return ""
    message = _no_channel_for(mapping.missing)
    lacking = _required_but_missing(expected, mapping)
    if lacking:
        return f"{message}; the model needs {', '.join(lacking)}"
    return f"{message}; the model can do without"


def require_channels(
    expected: Sequence[ChannelSpec], mapping: ChannelMapping, available: Sequence[str]
) -> None:
    """Refuse a mapping that leaves a required channel, or every channel, without a source."""
    lacking = _required_but_missing(expected, mapping)
    if lacking:
        raise ChannelMismatchError(
            f"{_no_channel_for(lacking)}; it has {_listed(available)}", _remedy(lacking[0])
        )


def taken_in_order(expected: Sequence[ChannelSpec], available: Sequence[str]) -> bool:
    """Whether an image's channels are matched by their order, since none of them has a name."""
    return len(available) == len(expected) and not any(available)


def is_one_of_several(expected: Sequence[ChannelSpec], available: Sequence[str]) -> bool:
    """Whether an image is a single channel, and its name does not say which of the expected ones.

    Examples
    --------
    >>> dna, actin = ChannelSpec(name="DNA"), ChannelSpec(name="actin")
    >>> [is_one_of_several([dna, actin], [name]) for name in ("", "grey", "DNA", "GFP")]
    [True, True, False, False]
    """
    if len(available) != 1 or len(expected) < 2 or not says_nothing(available[0]):
        return False
    return not any(spec.matches(available[0]) for spec in expected)


def says_nothing(name: str) -> bool:
    """Whether a name of a channel does not say what it shows, such as ``Channel 0`` or ``image``.

    Examples
    --------
    >>> says_nothing(""), says_nothing("Channel:0:1"), says_nothing("w1 Hoechst")
    (True, True, False)
    """
    return all(_NUMBERED.fullmatch(word) for word in _words(name))


def order_warning(expected: Sequence[ChannelSpec], channels: str = "its channels") -> str:
    """Say that channels without names are taken in order.

    Examples
    --------
    >>> order_warning([ChannelSpec(name="DNA"), ChannelSpec(name="actin")])
    'its channels have no names and are taken as DNA, actin, in this order'
    """
    names = ", ".join(spec.name for spec in expected)
    return f"{channels} have no names and are taken as {names}, in this order"


def taken_as(channel: str) -> str:
    """Say which channel a lone grey image was taken for.

    Examples
    --------
    >>> taken_as("w2 ConA")
    'the image is one channel without a name, taken as w2 ConA'
    """
    return f"the image is one channel without a name, taken as {channel}"


def expected_name(
    expected: Sequence[ChannelSpec], given: str, says: str = "the mapping names"
) -> str:
    """Return the full name of the expected channel that a user means.

    `says`: where it was named, for the error.
    """
    if any(spec.name == given for spec in expected):
        return given
    tests = (
        lambda spec: spec.matches(given),
        lambda spec: any(_contains(mine, given) for mine in (spec.name, *spec.aliases)),
    )
    for test in tests:
        hits = [spec.name for spec in expected if test(spec)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise ChannelMismatchError(
                f"{says} channel {given!r}, which could be any of the model's "
                f"{', '.join(hits)}; write the whole name"
            )
    raise ChannelMismatchError(
        f"{says} channel {given!r}, but the model expects "
        f"{', '.join(spec.name for spec in expected)}; use one of those"
    )


def name_overrides(
    expected: Sequence[ChannelSpec], overrides: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Call the expected channels in a user's mapping by their full names.

    Examples
    --------
    >>> name_overrides([ChannelSpec(name="w1 Hoechst")], {"W1": "blue"})
    {'w1 Hoechst': 'blue'}
    """
    named: dict[str, str | None] = {}
    for given, source in overrides.items():
        name = expected_name(expected, given)
        if name in named:
            raise ChannelMismatchError(
                f"the mapping names the model's channel {name!r} twice; say once what feeds it"
            )
        named[name] = source
    return named


def reason_in_training(error: InputError) -> str:
    """Say why an image cannot be trained on: there, one mapping for one image is no remedy."""
    return error.problem if isinstance(error, ChannelMismatchError) else str(error)


def _no_channel_for(names: Sequence[str]) -> str:
    return f"the image has no channel for {', '.join(names)}"


def _required_but_missing(
    expected: Sequence[ChannelSpec], mapping: ChannelMapping
) -> tuple[str, ...]:
    """Return the required channels without a source; all channels if none has one."""
    if len(mapping.missing) == len(expected):
        return mapping.missing
    return tuple(spec.name for spec in expected if spec.required and spec.name in mapping.missing)


def _find(spec: ChannelSpec, available: Sequence[str]) -> int | None:
    """Prefer the same name, then the full name inside a longer one, then an alias."""
    if tuple(available) == (GREY,) and any(map(spec.matches, RGB_NAMES[:3])):
        return 0
    tests = (
        lambda name: _words(name) == _words(spec.name),
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
                f"channel {spec.name!r} could be any of {found}", _remedy(spec.name)
            )
    return None


def _words(name: str) -> tuple[str, ...]:
    """Split a name into lower-case words, digits kept with their letters.

    Examples
    --------
    >>> _words("B02_s1 [w1-Hoechst]")
    ('b02', 's1', 'w1', 'hoechst')
    """
    return tuple(re.findall(r"[^\W_]+", name.lower()))


def _contains(name: str, wanted: str) -> bool:
    """Whether the words of one name stand in another, in order and side by side."""
    inside, sought = _words(name), _words(wanted)
    if not sought:
        return False
    length = len(sought)
    return any(inside[i : i + length] == sought for i in range(len(inside) - length + 1))


def _position_of(source: str, available: Sequence[str]) -> int:
    """Find a channel of the image by its name or, where it has none, by its number."""
    if tuple(available) == (GREY,) and source.lower() in RGB_NAMES[:3]:
        return 0
    if source in available and source:
        return list(available).index(source)
    number = source.lower().removeprefix("channel").strip()
    if number.isascii() and number.isdigit() and 0 < int(number) <= len(available):
        index = int(number) - 1
        if not available[index]:
            return index
    raise ChannelMismatchError(
        f"the mapping asks for the image's channel {source!r}, but it has {_listed(available)}; "
        "use one of those"
    )


def _listed(available: Sequence[str]) -> str:
    """Say which channels an image has."""
    names = (name or f"channel {number}" for number, name in enumerate(available, start=1))
    return ", ".join(names) or "none"


def _remedy(name: str) -> str:
    """Say how a user tells which channel to take."""
    return (
        f"say which to use with mapping={{{name!r}: ...}} in Python, or with "
        f'--channels "{name}=..." of cellclf predict'
    )
