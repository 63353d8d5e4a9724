"""The entry point: parse, then run one command and turn how it ended into an exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from napari_cellclf.cli.options import Subparsers
from napari_cellclf.cli.terminal import (
    ExitCode,
    add_verbose,
    escaped_streams,
    printable,
    printable_lines,
    quiet_libraries,
)
from napari_cellclf.errors import CancelledError, CellclfError
from napari_cellclf.models.devices import chosen_backend

_EXIT_CODES = """\
exit codes:
  0    success
  1    failed; one line on standard error says why
  2    the command line is wrong
  3    some images could not be read or classified, all others were
  130  interrupted by Ctrl-C
  141  the reader of the output went away (| head)
"""

#: What there is, with the module of each in this package, and what help says of it.
COMMANDS = {
    "predict": "classify images: files, folders, or a table of paths",
    "data": "check labelled images: classes, groups, split, and anything odd",
    "train": "train a classifier, or resume a run",
    "tune": "search for good training settings",
    "evaluate": "measure a model on labelled images, and write a report",
    "models": "list, show, fetch, import, share, export and remove models",
    "serve": "classify over HTTP, with a page to drop images on",
    "info": "show versions, devices and folders",
    "demo": "end-to-end demo on simulated images, in under two minutes",
}

#: Seconds for threads to end, after a command has ended.
_PATIENCE = 1.0

#: Errors that name something outside the program: a disk, the memory, a package that is not there.
_OUTSIDE = (OSError, MemoryError, ImportError)

#: What a disk says that has no room, or none for this user; which file did not fit is not known.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Examples
    --------
    >>> main(["--version"])  # doctest: +ELLIPSIS
    cellclf ...
    0
    """
    _never_fail_to_print()
    try:
        arguments = sys.argv[1:] if argv is None else argv
        command = next((one for one in arguments if not one.startswith("-")), "")
        args = build_parser(command).parse_args(arguments)
    except SystemExit as stopped:
        # argparse leaves this way after --help (0) and after a wrong command line (2).
        return int(stopped.code or 0)
    with quiet_libraries(verbose=args.verbose), escaped_streams():
        return _run(args)


def program() -> NoReturn:
    """Run the command line as a program of its own, which ends when its work does.

    Python would wait for threads, and some libraries decode a large image in one piece, which
    nothing but the end of the process can stop.
    """
    _replace_closed_streams()
    code = main()
    deadline = time.monotonic() + _PATIENCE
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _flush()
                os._exit(code)
    if code == ExitCode.INTERRUPTED:
        # Libraries take seconds to take themselves apart on a busy machine.
        _flush()
        os._exit(code)
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Let nothing go where a shell has closed a stream (``>&-``).

    Otherwise the next file that is opened would take its place, and what libraries print.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            stream = os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8")
            setattr(sys, name, stream)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of all commands, or with the arguments of one `only`; imports nothing heavy.

    Each command has a module, and a run needs one of them.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="cellclf",
        description="Classify microscopy images.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(verbose=False)
    add_verbose(parser)
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if only in (None, name):
            _add_command(commands, name, summary)
        else:
            commands.add_parser(name, help=summary)
    return parser


def _add_command(commands: Subparsers, name: str, summary: str) -> None:
    module = importlib.import_module(f"napari_cellclf.cli.{name}")
    command = commands.add_parser(
        name,
        help=summary,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=module.run)
    add_verbose(command)
    module.add_arguments(command)


class _Parser(argparse.ArgumentParser):
    """Names of files, which a shell may have put into a command, do not act on the terminal."""

    def error(self, message: str) -> NoReturn:
        """End with a message."""
        super().error(printable_lines(message))


class _Version(argparse.Action):
    """Print the version; asked for only then, since looking it up takes time."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from napari_cellclf import __version__

        print(f"cellclf {__version__}")
        parser.exit()


def _run(args: argparse.Namespace) -> int:
    try:
        # Keras itself would answer a misspelt name with a traceback.
        chosen_backend()
        code = int(args.run(args))
        # Here, where a reader that has gone away can still be noticed quietly.
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        return ExitCode.BROKEN_PIPE
    except (KeyboardInterrupt, CancelledError):
        _say("interrupted", args.verbose)
        return ExitCode.INTERRUPTED
    except CellclfError as error:
        _say(f"error: {error}", args.verbose)
        return ExitCode.FAILED
    except _OUTSIDE as error:
        _say(f"error: {_describe(error)}", args.verbose)
        return ExitCode.FAILED
    return code


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller --batch-size, or smaller images"
    if isinstance(error, ImportError):
        return f"a package that is needed cannot be imported: {error}; see cellclf info"
    if isinstance(error, OSError) and error.errno in _FULL and not error.filename:
        return f"{error.strerror}; free some space, or set TMPDIR to another disk"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _say(message: str, verbose: bool) -> None:
    if verbose:
        traceback.print_exc()
    # A file's name stands in it, and may hold what a terminal would act on.
    print(f"cellclf: {printable(' '.join(message.splitlines()))}", file=sys.stderr)


def _never_fail_to_print() -> None:
    # File names may hold what the terminal's encoding lacks, or bytes that are no text at all.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    # Python flushes standard output once more at its end, and would complain then.
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
