"""Tell on standard error how far the work has come: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from napari_cellclf.cli.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from napari_cellclf.core.progress import Progress

Style = Literal["bar", "lines", "none"]

#: Seconds before the first line in a log, and between two of them.
_FIRST_LINE, _NEXT_LINE = 2.0, 30.0


def choose_style(*, stderr_is_terminal: bool, stdout_is_terminal: bool, json: bool) -> Style:
    """Decide how progress is shown.

    Examples
    --------
    >>> choose_style(stderr_is_terminal=True, stdout_is_terminal=True, json=False)
    'bar'
    """
    if json and not stdout_is_terminal:
        return "none"
    return "bar" if stderr_is_terminal else "lines"


class ProgressReporter:
    """Show progress and one-line notes on standard error, without one spoiling the other.

    `unit`: what is counted; None tells a percentage and the message instead.
    """

    def __init__(
        self,
        style: Style,
        title: str = "classifying",
        unit: str | None = "images",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._style = style
        self._title = title
        self._unit = unit
        self._clock = clock
        self._next_line: float | None = None
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hide()

    def begin(self, message: str) -> None:
        """Show that something of unknown length has begun; on terminals only."""
        if self._style == "bar":
            self._show(message, 0, None)

    def __call__(self, progress: Progress) -> None:
        """Show how far the work has come: an `OnProgress`."""
        if self._style == "bar":
            # Not its message, which names a file and would leave no room for the bar.
            title = self._title if self._unit else f"{self._title}: {progress.message}"
            self._show(title, progress.done, progress.total)
        elif self._style == "lines":
            self._line(progress)

    def note(self, message: str) -> None:
        """Write one line, above the bar where there is one."""
        line = f"cellclf: {printable(message)}"
        if self._bar is None:
            print(line, file=sys.stderr)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def hide(self) -> None:
        """Take the bar away, so that standard output can be written to the same terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def silence(self) -> None:
        """Show no more progress; rows on the same terminal tell of it."""
        self.hide()
        self._style = "none"

    def _line(self, progress: Progress) -> None:
        now = self._clock()
        if self._next_line is None:
            self._next_line = now + _FIRST_LINE
        elif now >= self._next_line and progress.done < progress.total:
            self._next_line = now + _NEXT_LINE
            self.note(self._count(progress))

    def _count(self, progress: Progress) -> str:
        if self._unit is None:
            return f"{progress.done / max(progress.total, 1):.0%}, {progress.message}"
        return f"{progress.done} of {progress.total} {self._unit}"

    def _show(self, message: str, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task(message, total=total, count="")
        if self._task is not None:
            count = "" if total is None or self._unit is None else f"{done} of {total}"
            self._bar.update(
                self._task, description=message, completed=done, total=total, count=count
            )


def _make_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        # Standard output is not for the bar to rewrite.
        redirect_stdout=False,
        redirect_stderr=False,
    )
