"""What the files of a data set hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Duplicates:
    """Images whose files hold the same bytes.

    Parameters
    ----------
    paths, labels, splits : tuple of str
        One for each image.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]

    @property
    def contradictory(self) -> bool:
        """Whether one image is called two things."""
        return len(set(self.labels)) > 1

    @property
    def leaks(self) -> bool:
        """Whether one image is on both sides of the split."""
        return len(set(self.splits) - {""}) > 1


@dataclass(frozen=True)
class FileFindings:
    """What the files of a data set hold.

    Parameters
    ----------
    unreadable : tuple of (str, str)
        Path of each image that cannot be used, and the reason in one sentence.
    duplicates : tuple of Duplicates
        Contradictory ones first, then those on both sides of the split.
    shapes, dtypes, channels : mapping of str to int
        How many images have each height and width (``"512x512"``), type, and set of channels;
        most frequent first.
    multi_plane : mapping of str to str
        Path of each image of several planes (times, depths), and its axes with their sizes.
    """

    unreadable: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[Duplicates, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    multi_plane: Mapping[str, str] = field(default_factory=dict)
