"""The exit codes that scripts can rely on."""

from __future__ import annotations

from enum import IntEnum


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
