"""Fetch a model from elsewhere."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.cli.fetched import checked_sha256, fetching, is_address
from napari_cellclf.cli.quiet import add_verbose
from napari_cellclf.cli.text import printable
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.cli.models.actions import Actions
    from napari_cellclf.core.progress import OnProgress, ShouldStop

_ABOUT = """\
Fetch a model, or the ImageNet weights of a backbone, by its name in a list of models (cellclf
models list --available), or a model by its address:

  https://host/path/model.cellclf          s3://bucket/path/model.cellclf
  doi:10.5281/zenodo.N/model.cellclf       hf:owner/name@COMMIT/model.cellclf
  a path, file:// or a network share

What arrives must have the checksum that is known of it, and is tried before it takes its place.
"""


def add_arguments(actions: Actions) -> None:
    """Declare ``cellclf models fetch``."""
    parser = actions.add_parser(
        "fetch",
        help="fetch a model by its name in a list, or by its address",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="NAME|ADDRESS", help="what to fetch")
    parser.add_argument(
        "--sha256", metavar="HEX", help="of the file; needed with an address, known with a name"
    )
    parser.add_argument("--name", help="what to call a model that is fetched by its address")
    parser.add_argument(
        "--offline", action="store_true", help="use no network, only what was fetched before"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a model of that name that you have"
    )
    parser.set_defaults(run_action=_fetch)
    add_verbose(parser)


def _fetch(args: argparse.Namespace) -> None:
    from napari_cellclf.io.cache import cache_folder

    with fetching() as (progress, should_stop):
        got = _get(args, progress, should_stop)
    if isinstance(got, Path):
        print(f"file: {printable(str(got))}")
        if got.suffix == ".keras":
            print("to make a model of it: cellclf models import FILE --classes A,B,C ...")
    else:
        print(f"model: {printable(str(got.path))}")
    print(f"cache: {printable(str(cache_folder()))}")


def _get(
    args: argparse.Namespace, on_progress: OnProgress, should_stop: ShouldStop
) -> ModelBundle | Path:
    from napari_cellclf.models.fetching import fetch_address, fetch_model

    # A file or a share is an address, too, and an entry's name has no slash.
    if is_address(args.model) or re.search(r"[/\\]", args.model):
        return fetch_address(
            args.model,
            sha256=checked_sha256(args.model, args.sha256),
            name=args.name,
            overwrite=args.force,
            offline=args.offline,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    if args.sha256 or args.name:
        raise InputError(
            f"{args.model!r} is the name of an entry, which says all of itself; leave --sha256 and "
            "--name out, or give an address"
        )
    return fetch_model(
        args.model,
        overwrite=args.force,
        offline=args.offline,
        on_progress=on_progress,
        should_stop=should_stop,
    )
