"""What the list of models shows: those that are here, and those that can be fetched. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Place = Literal["mine", "bundled", "fetch", "weights"]

#: The headings of the list, in their order.
PLACES: dict[Place, str] = {
    "mine": "Yours",
    "bundled": "With the plugin",
    "fetch": "To fetch",
    "weights": "To start a training from",
}
_MANY = 8


@dataclass(frozen=True)
class ShelfEntry:
    """A model, or weights to start a training from."""

    name: str
    title: str
    #: Where it is; the last two are to be fetched.
    place: Place
    #: Of a model that is here.
    path: Path | None = None
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    #: Of the weights.
    licence: str = ""
    #: On the disk, or to be downloaded.
    size_bytes: int = 0
    #: A sentence or two of what it is for.
    about: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it can be classified with at once."""
        return self.place in ("mine", "bundled")

    @property
    def n_classes(self) -> int:
        """How many classes it tells apart; 0 for weights."""
        return len(self.classes)

    @property
    def size(self) -> str:
        """Such as ``"8.7 MB"``."""
        return f"{self.size_bytes / 1e6:.1f} MB" if self.size_bytes else ""

    @property
    def summary(self) -> str:
        """A few lines for people."""
        lines = [self.about] if self.about else []
        if self.classes:
            lines.append(f"{self.n_classes} classes: {_listed(self.classes)}")
        if self.channels:
            plural = "" if len(self.channels) == 1 else "s"
            lines.append(f"Channel{plural}: {_listed(self.channels)}")
        lines.append(f"Licence: {self.licence or 'not stated'}")
        return "\n".join(lines)


def in_words(entries: Sequence[ShelfEntry]) -> str:
    """Say how many there are of each place."""
    counts = {place: sum(entry.place == place for entry in entries) for place in PLACES}
    del counts["weights"]
    return ", ".join(f"{count} {PLACES[place].lower()}" for place, count in counts.items() if count)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
