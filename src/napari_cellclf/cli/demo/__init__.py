"""Run an end-to-end demo on simulated images, in under two minutes on two cores.

Writes a simulated plate as image files, reads it back, trains a small classifier, evaluates it on
wells that it has not seen, classifies the images of a new plate, and saves a table, plots, a report
and the trained model. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_cellclf.cli.terminal import ExitCode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf demo``."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("cellclf-demo"),
        metavar="DIR",
        help="folder to make (default: cellclf-demo); an earlier demo in it is replaced",
    )
    parser.add_argument("--view", action="store_true", help="finally, open the new plate in napari")


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    from napari_cellclf.cli.demo.tour import NEW_PLATE, open_napari, require_napari, run_tour

    if args.view:
        require_napari()
    run_tour(args.out)
    if args.view:
        open_napari(args.out / NEW_PLATE / "images")
    return ExitCode.OK
