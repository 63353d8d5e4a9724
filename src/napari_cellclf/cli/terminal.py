"""What a command shows on a terminal, how Ctrl-C stops it, and the code it ends with."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO, cast

from napari_cellclf.core.progress import ShouldStop, never_stop

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from napari_cellclf.core.progress import Progress


def printable(text: str) -> str:
    r"""Escape what a terminal would act on: control characters, line ends, undecodable bytes.

    Examples
    --------
    >>> printable("plate" + chr(10) + "1.png")
    'plate\\n1.png'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def printable_lines(text: str) -> str:
    """Escape the same in each line of a text of several."""
    return "\n".join(map(printable, text.split("\n")))


class EscapedStream:
    """A stream on which no text acts on a terminal: whatever is printed is escaped in its lines.

    Everything else is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        """Write a text."""
        self.unescaped.write(printable_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Return what the stream has."""
        return getattr(self.unescaped, name)


def unescaped(stream: TextIO) -> TextIO:
    """Return the stream itself, for colours and bars of our own."""
    return stream.unescaped if isinstance(stream, EscapedStream) else stream


@contextmanager
def escaped_streams() -> Iterator[None]:
    """Escape whatever is printed inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", EscapedStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Set rows of text in columns.

    Examples
    --------
    >>> print(columns([["a", "1"], ["bcd", "2"]]))
    a    1
    bcd  2
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(indent + line for line in lines)


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


def stream_style(*, json: bool = False) -> Style:
    """Decide how progress is shown on the streams of this process."""
    return choose_style(
        stderr_is_terminal=sys.stderr.isatty(), stdout_is_terminal=sys.stdout.isatty(), json=json
    )


class ProgressReporter:
    """Show progress and one-line notes on standard error, without one spoiling the other.

    `unit`: what is counted; None tells a percentage and the message instead. `estimates`: whether
    a bar shows how long it will take, by the speed so far; a message may know better.
    """

    def __init__(
        self,
        style: Style,
        title: str = "classifying",
        unit: str | None = "images",
        *,
        estimates: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._style = style
        self._title = title
        self._unit = unit
        self._estimates = estimates
        self._clock = clock
        self._next_line: float | None = None
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._above: ProgressReporter | None = None

    def beside(self, title: str) -> ProgressReporter:
        """Make another one, for other work at the same time, whose bar is below this one's."""
        other = ProgressReporter(
            self._style, title, self._unit, estimates=self._estimates, clock=self._clock
        )
        other._above = self
        return other

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
        if self._style != "bar":
            return
        if self._bar is not None and self._task is not None:
            # A bar does not forget how much there was to do.
            self._bar.remove_task(self._task)
            self._task = self._bar.add_task(message, total=None, count="")
        self._show(message, 0, None)

    def __call__(self, progress: Progress) -> None:
        """Show how far the work has come: an `OnProgress`."""
        if self._style == "bar":
            # Not its message, which names a file and would leave no room for the bar.
            title = self._title if self._unit else f"{self._title}: {progress.message}"
            self._show(title, progress.done, progress.total, progress.part)
        elif self._style == "lines":
            self._line(progress)

    def note(self, message: str) -> None:
        """Write one line, above the bar where there is one."""
        line = f"cellclf: {printable(message)}"
        bar = self._bar if self._above is None else self._above._bar
        if bar is None:
            print(line, file=sys.stderr)
        else:
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def hide(self) -> None:
        """Take the bar away, so that standard output can be written to the same terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def silence(self) -> None:
        """Show no more progress; rows on the same terminal tell of it."""
        self.hide()
        self._style = "none"

    def _shown(self) -> RichProgress:
        """Return the bars on the terminal, of which this is one."""
        if self._above is not None:
            self._above._bar = self._above._shown()
            return self._above._bar
        if self._bar is None:
            self._bar = _make_bar(estimates=self._estimates)
            self._bar.start()
        return self._bar

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
        doing = f", {progress.message}" if progress.part else ""
        return f"{progress.done} of {progress.total} {self._unit}{doing}"

    def _show(self, message: str, done: int, total: int | None, part: float = 0.0) -> None:
        message = printable(message)
        if self._bar is None:
            self._bar = self._shown()
            self._task = self._bar.add_task(message, total=total, count="")
        if self._task is not None:
            count = "" if total is None or self._unit is None else f"{done} of {total}"
            self._bar.update(
                self._task, description=message, completed=done + part, total=total, count=count
            )


def _make_bar(*, estimates: bool) -> RichProgress:
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
        *([TimeRemainingColumn()] if estimates else []),
        console=Console(file=unescaped(sys.stderr)),
        transient=True,
        # Standard output is not for the bar to rewrite.
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def stop_on_interrupt() -> Iterator[ShouldStop]:
    """Turn the first Ctrl-C inside the block into an answer of the yielded function.

    A second one interrupts at once, as Ctrl-C usually does.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to the main thread only.
        yield never_stop
        return
    pressed = threading.Event()

    def remember(signum: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


_STDERR = 2


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Declare ``--verbose``, which is understood before and after a command's name."""
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        # Without a default here, `cellclf -v predict` is not undone by the parser of `predict`.
        default=argparse.SUPPRESS,
        help="show tracebacks of errors and the messages of TensorFlow and other libraries",
    )


@contextmanager
def quiet_libraries(*, verbose: bool) -> Iterator[None]:
    """Silence libraries inside the block; what Python code prints itself is not touched."""
    if verbose:
        yield
        return
    # Read when TensorFlow is imported, which is later.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    silent = logging.NullHandler()
    # With a handler on the root logger, Python's last-resort handler prints nothing.
    logging.getLogger().addHandler(silent)
    levels = {name: logging.getLogger(name).level for name in ("absl", "tensorflow")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _native_stderr_hidden():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(silent)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _native_stderr_hidden() -> Iterator[None]:
    """Hide what compiled code writes to standard error; Python's own stream still shows.

    TensorFlow 2.21 writes some lines before it reads its log level, so that no environment
    variable silences them. Nothing is done where standard error is not the process's own.
    """
    shown = sys.stderr
    if not _is_native(shown):
        yield
        return
    saved = os.dup(_STDERR)
    null = os.open(os.devnull, os.O_WRONLY)
    shown.flush()
    os.dup2(null, _STDERR)
    os.close(null)
    with open(saved, "w", buffering=1, encoding=shown.encoding, errors="backslashreplace") as ours:  # noqa: PTH123
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = shown
            os.dup2(saved, _STDERR)


def _is_native(stream: object) -> bool:
    try:
        return stream.fileno() == _STDERR  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return False


class ExitCode(IntEnum):
    """How a command ended.

    Examples
    --------
    >>> int(ExitCode.SOME_FAILED)
    3
    """

    #: Everything asked for was done.
    OK = 0
    #: Nothing could be done; one line on standard error says why.
    FAILED = 1
    #: The command line itself is wrong; the code that argparse uses.
    USAGE = 2
    #: Some images could not be read or classified, all others were.
    SOME_FAILED = 3
    #: Stopped by Ctrl-C: 128 + SIGINT, as shells count.
    INTERRUPTED = 130
    #: The reader of the output went away (``| head``): 128 + SIGPIPE.
    BROKEN_PIPE = 141
