"""Classify over HTTP: `POST /api/predict` with images, and a page at `/` to drop them on.

Listens to this computer only, unless --host says otherwise and --token-file holds a secret that
clients must send. Needs the extra `server`: pip install "napari-cellclf[server]".
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_cellclf.cli.models.actions import reference_of
from napari_cellclf.cli.options import add_engine, positive
from napari_cellclf.cli.terminal import ExitCode
from napari_cellclf.errors import InputError

_MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf serve``."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a model's name, the path of a bundle, a run, or an address (https, s3, doi, hf)",
    )
    add("--sha256", metavar="HEX", help="of the file, where MODEL is an address")
    add("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    add("--port", type=_port, default=8080, help="port to listen at (default 8080; 0: a free one)")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a file with the token that clients must send",
    )
    add(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name that clients use for this server; can be repeated",
    )
    add(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web page that may send requests from a browser, such as https://lab.example",
    )
    add("--certificate", type=Path, metavar="FILE", help="TLS certificate, a PEM file")
    add("--key", type=Path, metavar="FILE", help="key of the certificate, a PEM file")
    add(
        "--reload",
        action="store_true",
        help="check every two seconds whether the model was replaced, and load the new one; kill "
        "-HUP does so at any time",
    )
    add(
        "--single-channel",
        metavar="NAME",
        help="the channel that a lone grey image without a name is taken for (by default, the one "
        "named in the model, if any)",
    )
    add_engine(parser)
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--batch-size",
        type=positive,
        default=16,
        metavar="N",
        help="largest batch (default 16); the fastest size is measured at the start",
    )
    add(
        "--queue",
        type=positive,
        default=64,
        metavar="N",
        help="requests that may wait (default 64)",
    )
    add(
        "--timeout",
        type=positive,
        default=30,
        metavar="S",
        help="time limit of a request (default 30)",
    )
    add("--max-body", type=positive, default=64, metavar="MIB", help="largest request (default 64)")
    add(
        "--max-pixels",
        type=positive,
        default=64,
        metavar="MIB",
        help="largest decoded image (default 64)",
    )
    add(
        "--drain",
        type=positive,
        default=None,
        metavar="S",
        help="when stopped, report not ready at /readyz for so long before closing the port",
    )


def run(args: argparse.Namespace) -> int:
    """Serve a model until told to stop."""
    from napari_cellclf.inference.remote import read_token

    try:
        from napari_cellclf.server.run import serve
        from napari_cellclf.server.settings import Limits, Settings
    except ModuleNotFoundError as error:
        raise InputError(
            f"serving needs a package that is not here ({error.name}); install it with "
            'pip install "napari-cellclf[server]"'
        ) from error
    limits = Limits(
        body_bytes=args.max_body * _MIB,
        pixel_bytes=args.max_pixels * _MIB,
        requests=args.queue,
        answer_seconds=args.timeout,
        batch=args.batch_size,
    )
    settings = Settings(
        host=args.host,
        port=args.port,
        token=None if args.token_file is None else read_token(args.token_file),
        allowed_hosts=tuple(args.allowed_host),
        allow_origins=tuple(args.allow_origin),
        certificate=args.certificate,
        key=args.key,
        reload_seconds=2.0 if args.reload else None,
        drain_seconds=args.drain or 0.0,
        engine=args.engine,
        precision=args.precision,
        single_channel=args.single_channel,
        limits=limits,
    )
    reference = reference_of(args.model, args.sha256)
    with _log_on_stderr():
        print(f"cellclf: loading {args.model}", file=sys.stderr)
        serve(reference, settings, _say_ready)
    return ExitCode.OK


def _say_ready(url: str, device: str) -> None:
    print(f"cellclf: ready at {url} on {device} (Ctrl-C stops it)", file=sys.stderr, flush=True)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = {"napari_cellclf.server": logging.INFO, "uvicorn": logging.WARNING}
    for name, level in loggers.items():
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name in loggers:
            logging.getLogger(name).removeHandler(handler)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number up to 65535")
    return int(text)
