"""How a command that trains is stopped: within seconds when asked once, at once when asked again.

A run asks between its steps whether it should stop. Inside of a library (a network that is
compiled, one very long step) nobody asks, so a thread watches as well, and ends the process when
its patience is over. That loses at most what came after the last checkpoint, as a kill does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from napari_cellclf.cli.terminal import ExitCode
from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.errors import RunError
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import ProgressLog

#: Seconds that a run has to stop by itself; the process needs some to end, too.
PATIENCE = 8.0
#: Seconds between two looks at the file "stop", and that the last words may take.
_LOOK, _LAST_WORDS = 0.2, 0.8
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = (
    "stopping after this step and saving, which takes 10 s at most; press Ctrl-C again to end at "
    "once and lose what came after the last checkpoint"
)
ENDED = "ended at once; the run resumes from its last checkpoint"
ENDED_LATE = (
    f"ended {PATIENCE:g} s after it was asked to stop, in the middle of a step; the run resumes "
    "from its last checkpoint"
)


@contextmanager
def stoppable(
    run: RunFolder | None, note: Callable[[str], None], hide: Callable[[], None] = lambda: None
) -> Iterator[ShouldStop]:
    """Turn Ctrl-C, a polite kill and the run's file "stop" into answers of the yielded function.

    `note`: shows a line; `hide`: clears the terminal before the process is ended.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to the main thread only.
        yield never_stop
        return
    watch = _Watch(run, note, hide)
    before = [signal.signal(number, watch.remember) for number in _SIGNALS]
    wakeup = signal.set_wakeup_fd(watch.descriptor, warn_on_full_buffer=False)
    watch.start()
    try:
        yield watch.should_stop
    finally:
        watch.leave()
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
        watch.close()


class _Watch(threading.Thread):
    """Learns of signals at once, also while the main thread is inside of a library."""

    def __init__(
        self, run: RunFolder | None, note: Callable[[str], None], hide: Callable[[], None]
    ) -> None:
        super().__init__(name="cellclf-stop", daemon=True)
        self._run, self._note, self._hide = run, note, hide
        self._asked, self._over = threading.Event(), threading.Event()
        # A run sweeps an older file "stop" away before it first asks.
        self._swept = False
        self._presses = 0
        self._end_at: float | None = None
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    @property
    def descriptor(self) -> int:
        """What the system writes the numbers of signals to, without waiting for Python."""
        return self._writer.fileno()

    def should_stop(self) -> bool:
        """Whether anything asked to stop."""
        self._swept = True
        return self._asked.is_set()

    def remember(self, *_: object) -> None:
        """Take a signal; the thread counts them."""
        self._asked.set()

    def leave(self) -> None:
        """End the thread."""
        self._over.set()
        with suppress(OSError):
            self._writer.send(b"\0")
        self.join()

    def close(self) -> None:
        """Close what the system wrote to."""
        self._reader.close()
        self._writer.close()

    def run(self) -> None:
        """Watch until the work is over."""
        while not self._over.is_set():
            if select.select([self._reader], [], [], _LOOK)[0]:
                self._take(self._reader.recv(64))
            now = self._swept and self._run is not None and self._look_at_file(self._run)
            if self._presses > 1 or now:
                self._end(ENDED)
            if not self._asked.is_set():
                continue
            self._end_at = self._end_at or time.monotonic() + PATIENCE
            if time.monotonic() > self._end_at:
                self._end(ENDED_LATE)

    def _take(self, numbers: bytes) -> None:
        pressed = sum(number in _SIGNALS for number in numbers)
        if pressed and not self._presses:
            self._note(STOPPING)
        self._presses += pressed
        if pressed:
            self._asked.set()

    def _look_at_file(self, run: RunFolder) -> bool:
        wish = run.stop_wish()
        if wish:
            self._asked.set()
        return wish == "now"

    def _end(self, why: str) -> None:
        """End the process, whatever the main thread is in."""
        if self._over.is_set():
            return
        last_words = threading.Thread(target=self._say, args=(why,), daemon=True)
        last_words.start()
        # The main thread may hold a lock that they need.
        last_words.join(_LAST_WORDS)
        os._exit(ExitCode.INTERRUPTED)

    def _say(self, why: str) -> None:
        if self._run is not None and self._run.path.is_dir():
            with suppress(RunError):
                log = ProgressLog(self._run.log)
                log.write("stopped", message=why)
                log.close()
        self._hide()
        self._note(why)
