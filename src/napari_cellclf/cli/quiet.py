"""Keep the libraries' chatter from users: TensorFlow's start-up messages, warnings, loggers.

Only the command line does this; a program that uses the package decides for itself.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
