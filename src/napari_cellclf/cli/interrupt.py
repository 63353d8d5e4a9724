"""Ctrl-C as a wish to stop after the present batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from napari_cellclf.core.progress import ShouldStop, never_stop


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
