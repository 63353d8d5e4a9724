"""How long work tells of itself and is stopped: two plain callables, no GUI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far some work has come.

    Parameters
    ----------
    done, total : int
        Steps finished and steps in all; `total` is known before the first step.
    message : str
        What is being done, for a status line.
    """

    done: int
    total: int
    message: str = ""


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


def never_stop() -> bool:
    """Answer that the work should go on: the default of every `should_stop`."""
    return False


def ignore_progress(progress: Progress) -> None:
    """Take no notice: the default of every `on_progress`."""
