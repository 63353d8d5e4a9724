"""The card of something that can be fetched: what its list says, for people."""

from __future__ import annotations

from collections.abc import Iterator

from napari_cellclf.bundles.fetched import is_here, place_of
from napari_cellclf.bundles.registry import RegistryEntry, WeightsEntry


def entry_card(entry: RegistryEntry) -> str:
    """Write the card of an entry."""
    return "\n".join(_lines(entry)).rstrip() + "\n"


def size_in_words(entry: RegistryEntry) -> str:
    """Write how large an entry's file is."""
    about = "" if entry.size_is_exact else "about "
    return f"{about}{entry.size_bytes / 1e6:.1f} MB"


def _lines(entry: RegistryEntry) -> Iterator[str]:
    yield from (f"# {entry.title}", "")
    if entry.description:
        yield from (entry.description, "")
    where = (
        str(place_of(entry)) if is_here(entry) else f"not yet: cellclf models fetch {entry.name}"
    )
    yield from (f"On this computer: {where}", "")
    if isinstance(entry, WeightsEntry):
        yield from (f'For training {entry.architecture} with weights="imagenet".', "")
    else:
        yield from ("## What it looks at", "")
        yield from (f"- {channel}" for channel in entry.channel_names)
        yield from ("", "## Classes", "")
        yield from (f"- `{name}`" for name in entry.class_names)
        yield ""
    if entry.limits:
        yield from ("## Limits", "", *(f"- {limit}" for limit in entry.limits), "")
    yield from ("## File", "", size_in_words(entry), "")
    yield from (f"- {place}" for place in entry.places)
    reason = f" ({entry.md5_reason})" if entry.md5_reason else ""
    yield from ("", f"{entry.checksum.title} {entry.checksum.digest}{reason}", "")
    yield from ("## Licence and citation", "", entry.licence, "", entry.citation)
