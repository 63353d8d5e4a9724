"""Keep other libraries' log lines from reaching a user while we judge a file ourselves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced(name: str) -> Iterator[None]:
    """Drop what a library logs in this thread, errors included.

    Our own checks say in one sentence what is wrong with a file; the library's running commentary
    on damaged tags would bury that sentence. Other threads' records pass, so that nobody else's
    use of the library goes quiet.
    """
    logger = logging.getLogger(name)
    me = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != me

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
