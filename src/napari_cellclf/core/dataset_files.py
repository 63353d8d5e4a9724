"""What the files of a data set hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Duplicates:
    """Images whose files hold the same bytes."""

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
    """What the files of a data set hold."""

    #: Path of each image that cannot be used, and the reason in one sentence.
    unreadable: tuple[tuple[str, str], ...] = ()
    #: Contradictory ones first, then those on both sides of the split.
    duplicates: tuple[Duplicates, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    #: Path of each image of several planes (times, depths), and its axes with their sizes.
    multi_plane: Mapping[str, str] = field(default_factory=dict)
