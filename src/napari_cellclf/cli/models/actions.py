"""Fetch, share, export and remove models."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.cli.options import Subparsers, add_overwrite
from napari_cellclf.cli.terminal import (
    ProgressReporter,
    add_verbose,
    printable,
    stop_on_interrupt,
    stream_style,
)
from napari_cellclf.errors import InputError, ModelNotFoundError

if TYPE_CHECKING:
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.core.progress import OnProgress, ShouldStop

#: As in `models.export.options`, which imports pydantic: too much for a parser; a test compares.
FORMATS = ("onnx", "openvino", "savedmodel", "keras", "bioimageio")
# Two letters at least: the drive of a Windows path is none.
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")

_ABOUT = """\
Fetch a model, or the ImageNet weights of a backbone, by its name in a list of models (cellclf
models list --available), or a model by its address:

  https://host/path/model.cellclf          s3://bucket/path/model.cellclf
  doi:10.5281/zenodo.N/model.cellclf       hf:owner/name@COMMIT/model.cellclf
  a path, file:// or a network share

What arrives must have the checksum that is known of it, and is tried before it takes its place.
"""


def add_arguments(actions: Subparsers) -> None:
    """Declare these actions."""
    for declare in (_add_fetch, _add_export, _add_share_and_remove):
        declare(actions)


def _add_fetch(actions: Subparsers) -> None:
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
    add_overwrite(parser, "replace a model of that name that you have")
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
            overwrite=args.overwrite,
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
        overwrite=args.overwrite,
        offline=args.offline,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def is_address(text: str) -> bool:
    """Whether a text names a file elsewhere, and no path or name.

    Examples
    --------
    >>> is_address("s3://models/embryo.cellclf"), is_address("C:/models/embryo.cellclf")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


def checked_sha256(model: str, sha256: str | None) -> str:
    """Return the SHA-256 that was given for an address."""
    if not sha256:
        raise InputError(
            f"the SHA-256 of {model} is needed to know the file again; give --sha256 as its "
            "publisher states it"
        )
    return sha256


def reference_of(model: str, sha256: str | None) -> str:
    """Return what `load_classifier` takes for a model, fetching it where it is not here."""
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.bundles.model_lists import read_registries
    from napari_cellclf.models.fetching import fetch_address_file, fetch_model

    if is_address(model):
        digest = checked_sha256(model, sha256)
        with fetching() as (progress, should_stop):
            file = fetch_address_file(
                model, sha256=digest, on_progress=progress, should_stop=should_stop
            )
        return str(file)
    if sha256:
        raise InputError(
            f"--sha256 is for an address, and {model!r} is none; leave it out, or give one"
        )
    try:
        find_model(model)
    except ModelNotFoundError:
        if model not in {entry.name for entry in read_registries().entries}:
            raise
        with fetching() as (progress, should_stop):
            fetch_model(model, on_progress=progress, should_stop=should_stop)
    return model


@contextmanager
def fetching() -> Iterator[tuple[ProgressReporter, ShouldStop]]:
    """Show progress, and let Ctrl-C stop it."""
    style = stream_style()
    with (
        stop_on_interrupt() as should_stop,
        ProgressReporter(style, title="fetching", unit=None) as progress,
    ):
        yield progress, should_stop


def _add_share_and_remove(actions: Subparsers) -> None:
    """Declare ``cellclf models share`` and ``cellclf models remove``."""
    sharing = actions.add_parser(
        "share",
        help="write a model as one file to pass on",
        description="Write a model as one file that can be passed on, unchanged and checked. Its "
        "test image travels with it.",
    )
    sharing.add_argument("model", metavar="NAME", help="a model's name, or the path of a bundle")
    sharing.add_argument("file", metavar="FILE", help="where to; ends in .cellclf or .zip")
    add_overwrite(sharing, "replace a file that is there")
    sharing.set_defaults(run_action=_share)
    removing = actions.add_parser(
        "remove",
        help="remove one of your models",
        description="Remove one of your own models from the disk. Those that come with the package "
        "stay.",
    )
    removing.add_argument("model", metavar="NAME", help="as cellclf models list shows it")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    removing.set_defaults(run_action=_remove)
    add_verbose(sharing)
    add_verbose(removing)


def _share(args: argparse.Namespace) -> None:
    from napari_cellclf.bundles.write import share_model

    copy = share_model(args.model, args.file, overwrite=args.overwrite)
    print(f"{copy.spec.name}: {printable(str(copy.path))} ({copy.size_bytes / 1e6:.1f} MB)")
    if copy.spec.licence:
        print(f"licence: {printable(copy.spec.licence)}")


def _remove(args: argparse.Namespace) -> None:
    from napari_cellclf.bundles.write import find_own_model, remove_model

    # What cannot be removed is said before anybody is asked.
    find_own_model(args.model)
    if not args.yes and not _is_sure(args.model):
        raise InputError(f"{args.model} was not removed; say yes, or give --yes")
    print(f"removed {printable(str(remove_model(args.model)))}")


def _is_sure(name: str) -> bool:
    # Without somebody to ask, only --yes says so.
    if not sys.stdin.isatty():
        return False
    return input(f"remove {printable(name)} from the disk? [y/N] ").strip().lower() in ("y", "yes")


def _add_export(actions: Subparsers) -> None:
    """Declare ``cellclf models export``."""
    exporting = actions.add_parser(
        "export",
        help="a model in the format of another program",
        description="Write a model as ONNX, OpenVINO, TensorFlow SavedModel, plain .keras or a "
        "bioimage.io package, and see that the other program answers the same.",
    )
    exporting.add_argument("model", metavar="NAME|PATH", help="a model's name, or a bundle's path")
    exporting.add_argument("--format", required=True, choices=FORMATS, help="which")
    exporting.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="where to: .onnx, .xml, a folder, .keras or .zip",
    )
    add_overwrite(exporting, "replace an older export")
    exporting.add_argument(
        "--licence",
        metavar="SPDX",
        help="for bioimageio, such as CC-BY-4.0; otherwise read from the bundle",
    )
    exporting.add_argument(
        "--author",
        action="append",
        default=[],
        metavar='"NAME, AFFILIATION"',
        help="for bioimageio, which needs one or more",
    )
    exporting.set_defaults(run_action=_export)
    add_verbose(exporting)


def _export(args: argparse.Namespace) -> None:
    from napari_cellclf.models.export.api import export_model

    written = export_model(
        args.model,
        args.format,
        args.out,
        overwrite=args.overwrite,
        licence=args.licence,
        authors=args.author,
    )
    print(f"wrote {printable(str(written))}")
