"""Check labelled images before training: classes, groups, split, and anything odd.

DATA is a folder with a folder for each class, one with train/valid/test folders, an RxRx1 folder,
a folder of embryo images (Stage(060)-20230811-Cycle00-embryo03-3.tif), or a CSV table with the
columns path and label, and perhaps group and split.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.cli.options import (
    add_excel,
    add_kind,
    add_naming,
    add_numbers,
    add_overwrite,
    positive,
)
from napari_cellclf.cli.output import plain
from napari_cellclf.cli.terminal import (
    ExitCode,
    ProgressReporter,
    printable,
    stop_on_interrupt,
    stream_style,
    unescaped,
)
from napari_cellclf.core.counting import counted
from napari_cellclf.errors import DatasetError, InputError

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.dataset_report import DatasetReport
    from napari_cellclf.core.progress import ShouldStop
    from napari_cellclf.io.written_images import WriteOptions

#: The image and its five fixed rotations.
_COPIES = 6
_FILES = ("report.txt", "dataset.csv", "classes-before.png", "classes-after.png", "bad_files.csv")

_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf data``."""
    add_reading_arguments(parser)
    add = parser.add_argument
    add(
        "--copies",
        type=positive,
        default=_COPIES,
        metavar="N",
        help="images that augmentation makes of each training image, itself included, for the "
        f"second bar plot (default {_COPIES}: the image and its five fixed rotations)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="write there report.txt, dataset.csv (every row with its split), bar plots of the "
        "images of each class before and after augmentation, and bad_files.csv if files cannot be "
        "read",
    )
    add_overwrite(parser, "replace files of an earlier report in DIR")
    add_excel(parser)
    add("--json", action="store_true", help="print the report as one JSON document")
    _add_writing(parser)


def _add_writing(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--write",
        type=Path,
        metavar="DIR",
        help="write the images themselves there, in train, validation and test with a folder for "
        "each class, and dataset.csv, which leads back to the originals; DIR must be new or empty",
    )
    add(
        "--preset",
        metavar="P",
        help="with --write: brighten, crop and turn the images as this preset does for training",
    )
    add(
        "--bits",
        type=int,
        choices=(8, 16),
        help="with --write: bits of each value (by default those of the image, or of the preset)",
    )
    add(
        "--format",
        choices=("png", "tif"),
        help="with --write: by default png where a PNG can hold the image, else tif",
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how labelled images are read and split, alike for all commands that do so."""
    add = parser.add_argument
    add("data", metavar="DATA", help="a folder or a CSV table of labelled images")
    add(
        "--label",
        metavar="COL",
        help="the column to learn: of a table (default label), of RxRx1 (default cell_type)",
    )
    add(
        "--group-by",
        metavar="COL",
        help="keep images together that are the same in this column, or in several joined by +, "
        "such as experiment+plate; guessed from names if left out",
    )
    add(
        "--split",
        metavar="HOW",
        help="random, group (whole groups), given (by folders or the column split), or a column; "
        "by default given where there is a split, else group where one is known, else random",
    )
    add(
        "--fractions",
        type=_fractions,
        default=(0.7, 0.15, 0.15),
        metavar="A,B,C",
        help="parts of the images to train, to validate and to test with, as nearly as whole "
        "groups allow (default 0.7,0.15,0.15)",
    )
    add_kind(parser)
    add_naming(parser, default="a field {label} is the class; any installed scheme by default")
    add("--seed", type=int, default=0, metavar="S", help="of the split (default 0)")
    add(
        "--allow-leakage",
        action="store_true",
        help="allow images of one group on both sides of the split; reports say so in red",
    )
    add_numbers(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report, and write it with the table and the plots if asked to."""
    from napari_cellclf.io.dataset_inspection import inspect_dataset

    if args.out is not None:
        _check_out(args.out, overwrite=args.overwrite)
    options = _write_options(args)
    on_terminal = sys.stdout.isatty()
    style = stream_style(json=args.json)
    with (
        ProgressReporter(style, "looking at images") as reporter,
        stop_on_interrupt() as should_stop,
    ):
        reporter.begin(f"reading {args.data}")
        names = _names_text(args)
        reporter.hide()
        if not args.json:
            # Before anything that may go wrong because of it.
            print(names, end="")
        dataset, refused = _read(args)
        report = inspect_dataset(dataset, on_progress=reporter, should_stop=should_stop)
        report = replace(report, warnings=(*report.warnings, *refused))
        reporter.hide()
        if args.json:
            print(json.dumps(plain(report.to_dict()), allow_nan=False))
        else:
            _show(report, colour=on_terminal and "NO_COLOR" not in os.environ)
        if args.out is not None:
            _write(dataset, report, names, args)
            reporter.note(f"the report is in {args.out}")
        if options is not None:
            _write_images(dataset, options, args, reporter, should_stop)
    return ExitCode.SOME_FAILED if report.unreadable else ExitCode.OK


def read_and_split(args: argparse.Namespace) -> Dataset:
    """Read labelled images as the arguments say, and split them."""
    return _split(read_only(args), args)


def read_only(args: argparse.Namespace) -> Dataset:
    """Read labelled images as the arguments say, and leave them as they are."""
    from napari_cellclf.io.datasets import read_dataset

    return read_dataset(
        args.data,
        label=args.label,
        group=args.group_by,
        every=args.every,
        minutes=args.minutes,
        kind=args.kind,
        naming=args.naming,
    )


def _show(report: DatasetReport, *, colour: bool) -> None:
    """Print a report, with what makes its metrics untrue in red where there are colours."""
    from napari_cellclf.reports.dataset_summary import dataset_text

    for line in dataset_text(report).removesuffix("\n").split("\n"):
        if colour and report.leaks and line.startswith("  - LEAKAGE"):
            print(f"{_RED}{printable(line)}{_PLAIN}", file=unescaped(sys.stdout))
        else:
            print(line)


def _names_text(args: argparse.Namespace) -> str:
    """Say how the first names are read, where the user said how they are made."""
    from napari_cellclf.io.named_images import understood_below

    folder = Path(args.data)
    if args.naming is None or not folder.is_dir():
        return ""
    return "\n".join(map(printable, understood_below(folder, args.naming).summary)) + "\n\n"


def _split(dataset: Dataset, args: argparse.Namespace) -> Dataset:
    by = args.split
    if by is None:
        by = "given" if (dataset.table["split"] != "").any() else None
    elif by == "group":
        if dataset.group_column is None:
            raise DatasetError(f"{dataset.group_reason}; name a column with --group-by")
        by = None
    return dataset.split(
        by, fractions=args.fractions, seed=args.seed, allow_leakage=args.allow_leakage
    )


def _read(args: argparse.Namespace) -> tuple[Dataset, list[str]]:
    """Read and split; where nobody asked for a split, the reason why there is none will do."""
    dataset = read_only(args)
    try:
        return _split(dataset, args), []
    except DatasetError as error:
        if args.split is not None:
            raise
        return dataset, [f"training would refuse this split: {error}"]


def _check_out(folder: Path, *, overwrite: bool) -> None:
    """Refuse before any work what cannot be written after it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; give a folder")
    there = [name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{folder / there[0]} exists; add --overwrite to replace it, or choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)


def _write(dataset: Dataset, report: DatasetReport, names: str, args: argparse.Namespace) -> None:
    from napari_cellclf.cli.prediction_table import write_bad_files
    from napari_cellclf.io.csv_tables import mark_for_excel
    from napari_cellclf.io.dataset_tables import write_dataset_csv
    from napari_cellclf.io.replacing import replacing
    from napari_cellclf.reports.dataset_summary import dataset_text, plot_class_counts

    folder = args.out
    with replacing(folder / "report.txt") as beside:
        beside.write_text(names + dataset_text(report), encoding="utf-8")
    # Relative to the table itself, so that it is data that can be read again.
    write_dataset_csv(dataset, folder / "dataset.csv", folder)
    plot_class_counts(report, folder / "classes-before.png", title="before augmentation")
    plot_class_counts(
        report,
        folder / "classes-after.png",
        copies=args.copies,
        title=f"after augmentation ({args.copies} of each training image)",
    )
    if report.unreadable:
        write_bad_files(report.unreadable, folder / "bad_files.csv")
    else:
        folder.joinpath("bad_files.csv").unlink(missing_ok=True)
    if args.excel:
        mark_for_excel(folder / "dataset.csv", folder / "bad_files.csv")


def _write_options(args: argparse.Namespace) -> WriteOptions | None:
    """Return how images are written, if they are; the preset chooses among the images, too."""
    from napari_cellclf.core.normalization import ScaleLinear
    from napari_cellclf.io.written_images import WriteOptions, check_new_folder

    if args.write is None:
        if args.preset or args.bits or args.format:
            raise InputError("--preset, --bits and --format belong to --write; add --write DIR")
        return None
    check_new_folder(args.write, Path(args.data))
    if args.preset is None:
        return WriteOptions(bits=args.bits, format=args.format)
    from napari_cellclf.models.training.presets import find_preset, make_config

    preset = find_preset(args.preset)
    args.every = args.every or preset.data.get("every", 1)
    args.minutes = args.minutes or (tuple(preset.data.get("minutes", ())) or None)
    config = make_config(preset.config)
    scale = config.normalization
    return WriteOptions(
        brightness=scale if isinstance(scale, ScaleLinear) else None,
        rotations=config.fixed_rotations,
        frame=config.rotation_frame,
        centre=config.centre,
        bits=args.bits,
        format=args.format,
    )


def _write_images(
    dataset: Dataset,
    options: WriteOptions,
    args: argparse.Namespace,
    reporter: ProgressReporter,
    should_stop: ShouldStop,
) -> None:
    from napari_cellclf.cli.prediction_table import write_bad_files
    from napari_cellclf.io.written_images import write_images

    written = write_images(
        dataset, args.write, options, on_progress=reporter, should_stop=should_stop
    )
    reporter.hide()
    if written.bad:
        write_bad_files(written.bad, args.write / "bad_files.csv")
        bad = counted(len(written.bad), "image was", "images were")
        reporter.note(f"{bad} not written; bad_files.csv says why")
    good = counted(len(written.dataset), "image is", "images are")
    reporter.note(f"{good} in {args.write}")


def _fractions(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not three numbers such as 0.7,0.15,0.15"
        ) from error
    return train, validation, test
