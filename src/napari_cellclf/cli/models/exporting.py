"""Write a model in the format of another program."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from napari_cellclf.cli.quiet import add_verbose
from napari_cellclf.cli.text import printable

if TYPE_CHECKING:
    from napari_cellclf.cli.models.actions import Actions

#: As in `models.export.options`, which imports pydantic: too much for a parser; a test compares.
FORMATS = ("onnx", "openvino", "savedmodel", "keras", "bioimageio")


def add_arguments(actions: Actions) -> None:
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
    exporting.add_argument("--force", action="store_true", help="replace an older export")
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
        overwrite=args.force,
        licence=args.licence,
        authors=args.author,
    )
    print(f"wrote {printable(str(written))}")
