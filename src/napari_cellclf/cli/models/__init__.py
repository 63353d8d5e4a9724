"""List models, show the card of one; fetch, import, share, export or remove one."""

from __future__ import annotations

import argparse

from napari_cellclf.cli.models import actions, importing, listing
from napari_cellclf.cli.terminal import ExitCode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf models``."""
    subparsers = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for part in (listing, importing, actions):
        part.add_arguments(subparsers)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    args.run_action(args)
    return ExitCode.OK
