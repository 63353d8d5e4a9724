"""List models, show the card of one; fetch, import, share, export or remove one."""

from __future__ import annotations

import argparse

from napari_cellclf.cli.exit_codes import ExitCode
from napari_cellclf.cli.models import exporting, fetching, importing, listing, own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf models``."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for part in (listing, fetching, importing, exporting, own):
        part.add_arguments(actions)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    args.run_action(args)
    return ExitCode.OK
