"""Say on standard error which images failed, without saying one thing a thousand times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_cellclf.core.channels import ChannelSpec

Note = Callable[[str], None]


@dataclass
class Failures:
    """Tells of the first image of each reason at once, and how many more there were at the end."""

    #: Takes one line for the user.
    note: Note
    _first: dict[str, str] = field(default_factory=dict)
    _more: dict[str, int] = field(default_factory=dict)

    def add(self, image: str, reason: str) -> None:
        """Tell of an image that could not be classified, if its reason is new."""
        if reason in self._first:
            self._more[reason] = self._more.get(reason, 0) + 1
            return
        self._first[reason] = image
        self.note(describe_failure(image, reason))

    def conclude(self) -> None:
        """Tell how many images failed for the same reasons as those that were named."""
        for reason, count in self._more.items():
            images = "1 more image" if count == 1 else f"{count} more images"
            self.note(f"... and {images} for the same reason as {self._first[reason]}")


def describe_failure(image: str, reason: str) -> str:
    """Put an image's name before a reason that does not name it."""
    folder = str(Path(image).parent)
    names_it = image in reason or (folder != "." and folder in reason)
    return reason if names_it else f"{image}: {reason}"


def describe_order(image: str, expected: Sequence[ChannelSpec]) -> str:
    """Say that an image's channels have no names and are taken in the order of its file."""
    from napari_cellclf.core.channels import order_warning

    warning = order_warning(expected, f"the channels of {image}")
    return f'{warning}; if that is wrong, say so with --channels "{expected[0].name}=2" ...'
