"""How long work tells of itself and is stopped: two plain callables, no GUI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
    part : float
        The fraction of the next step that is done, where it takes long: a large image.
    """

    done: int
    total: int
    message: str = ""
    part: float = 0.0


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


def never_stop() -> bool:
    """Answer that the work should go on: the default of every `should_stop`."""
    return False


def ignore_progress(progress: Progress) -> None:
    """Take no notice: the default of every `on_progress`."""


#: Told what is being done to one image and which fraction of it is done; may raise to end it.
OnPart = Callable[[str, float], None]

_on_part: ContextVar[OnPart | None] = ContextVar("on_part", default=None)


@contextmanager
def watched(on_part: OnPart) -> Iterator[None]:
    """Be told, in this thread, of parts of work on one image that takes long."""
    token = _on_part.set(on_part)
    try:
        yield
    finally:
        _on_part.reset(token)


def part_done(what: str, fraction: float) -> None:
    """Tell whoever watches this thread; they may raise to end the work.

    `fraction`: of this image, from 0 to 1.
    """
    on_part = _on_part.get()
    if on_part is not None:
        on_part(what, fraction)
