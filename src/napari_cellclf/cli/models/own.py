"""Share or remove one of the user's own models."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from napari_cellclf.cli.quiet import add_verbose
from napari_cellclf.cli.text import printable
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.cli.models.actions import Actions


def add_arguments(actions: Actions) -> None:
    """Declare ``cellclf models share`` and ``cellclf models remove``."""
    sharing = actions.add_parser(
        "share",
        help="write a model as one file to pass on",
        description="Write a model as one file that can be passed on, unchanged and checked. Its "
        "test image travels with it.",
    )
    sharing.add_argument("model", metavar="NAME", help="a model's name, or the path of a bundle")
    sharing.add_argument("file", metavar="FILE", help="where to; ends in .cellclf or .zip")
    sharing.add_argument("--overwrite", action="store_true", help="replace a file that is there")
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
