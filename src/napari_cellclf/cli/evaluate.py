"""Measure how good a model is on labelled images, and write a report.

MODEL is a model's name, a bundle, or the folder of a finished training run. DATA is a folder with
a folder for each class, an RxRx1 root, a folder of embryo images, a CSV table with the columns
`path` and `label`, or the folder of a training run, which stands for the images of that run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.cli.options import (
    NAMING_OF_MODEL,
    add_batch_size,
    add_channels,
    add_engine,
    add_excel,
    add_kind,
    add_naming,
    add_numbers,
    add_overwrite,
    channel_mapping,
    chosen_naming,
)
from napari_cellclf.cli.output import Failures
from napari_cellclf.cli.terminal import (
    ExitCode,
    ProgressReporter,
    printable_lines,
    stop_on_interrupt,
    stream_style,
)
from napari_cellclf.core.counting import counted
from napari_cellclf.errors import InputError, NoImagesError

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.io.datasets import Kind


_SPLITS = ("test", "validation", "train", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf evaluate``."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model's name, a bundle, or a training run")
    add("data", metavar="DATA", help="labelled images")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for report.html, metrics.json and predictions.csv",
    )
    add_overwrite(parser, "replace the report that is in DIR")
    add(
        "--split",
        choices=_SPLITS,
        help="which part of the data; by default the test part if the data have one, else all",
    )
    add("--label", metavar="COL", help="column that holds the classes")
    add(
        "--group-by",
        metavar="COL",
        help="column, or several as COL+COL, of images that belong together (a plate, an embryo); "
        "the intervals are drawn over these; guessed from the names if left out",
    )
    add(
        "--top-k",
        type=_ranks,
        default=(1, 3, 6),
        metavar="K,K",
        help="report how often the truth is among the K most probable (default 1,3,6)",
    )
    add(
        "--ignore-unknown",
        action="store_true",
        help="leave out images of classes that the model does not know",
    )
    add_numbers(parser)
    add_kind(parser)
    add_naming(parser, default=NAMING_OF_MODEL)
    add_channels(parser)
    add_batch_size(parser)
    add_engine(parser)
    add_excel(parser)
    add("--json", action="store_true", help="print what metrics.json holds")


def run(args: argparse.Namespace) -> int:
    """Evaluate what the arguments name."""
    from napari_cellclf.reports.evaluate import evaluate

    # Whatever can be wrong without the model is found before the seconds that loading it takes.
    mapping = channel_mapping(args.channels)
    _check_out(args.out, overwrite=args.overwrite)
    model = find_trained(args.model)
    dataset = read_labelled(
        args.data,
        label=args.label,
        group=args.group_by,
        kind=args.kind,
        every=args.every,
        minutes=args.minutes,
        naming=args.naming,
        model=model,
    )
    split = args.split or default_split(dataset)
    part = part_of(dataset, split)
    style = stream_style(json=args.json)
    with ProgressReporter(style) as reporter, stop_on_interrupt() as should_stop:
        if args.split is None:
            size = counted(len(part), part.noun)
            reporter.note(f"evaluating on {_part_words(split, part.noun)}: {size}")
        reporter.begin(f"loading {args.model}")
        classifier = _load(model, args)
        evaluation = evaluate(
            classifier,
            part,
            name=f"{Path(args.data).name or args.data}, {_part_words(split, part.noun)}",
            role="test" if split == "all" else split,
            unknown="ignore" if args.ignore_unknown else "error",
            mapping=mapping,
            batch_size=args.batch_size,
            top_k=args.top_k,
            on_progress=reporter,
            should_stop=should_stop,
        )
        reporter.hide()
        return _conclude(args, classifier, dataset, part, evaluation, reporter)


def _conclude(
    args: argparse.Namespace,
    classifier: Classifier,
    dataset: Dataset,
    part: Dataset,
    evaluation: Evaluation,
    reporter: ProgressReporter,
) -> int:
    from napari_cellclf.io.csv_tables import mark_for_excel
    from napari_cellclf.io.rows import RowReader
    from napari_cellclf.reports.evaluate import leak_warnings
    from napari_cellclf.reports.mistake_maps import MistakeMaps
    from napari_cellclf.reports.report import PREDICTIONS, write_report

    seen = evaluation.seen_warning
    warnings = [*leak_warnings(dataset), *((seen,) if seen else ())]
    read = RowReader(dataset, classifier.preprocessing.object_crop)
    page = write_report(
        args.out,
        [evaluation],
        title=f"{classifier.bundle.spec.title or classifier.name}: {evaluation.name}",
        read=read,
        explain=MistakeMaps(
            classifier.engine,
            classifier.bundle.weights,
            classifier.preprocessing,
            classifier.classes,
            read,
            channel_mapping(args.channels),
        ),
        dataset_counts=part.counts(),
        warnings=warnings,
        facts=_facts(classifier, dataset),
    )
    if args.excel:
        mark_for_excel(args.out / PREDICTIONS)
    failures = Failures(reporter.note)
    for image, reason in evaluation.failed:
        failures.add(image, reason)
    failures.conclude()
    for warning in warnings:
        # The summary says it itself.
        if args.json or warning != seen:
            reporter.note(f"warning: {warning[1]}")
    if args.json:
        print(json.dumps(evaluation.metrics(), allow_nan=False))
    else:
        print(printable_lines(evaluation.summary()))
    reporter.note(f"report in {page}")
    return ExitCode.SOME_FAILED if evaluation.failed else ExitCode.OK


def _facts(classifier: Classifier, dataset: Dataset) -> dict[str, str]:
    from napari_cellclf import __version__

    spec = classifier.bundle.spec
    facts = {
        "model": spec.name,
        "architecture": spec.architecture.name,
        "trained on": spec.training.source,
        "images": dataset.source,
        "kept together by": dataset.group_column or "nothing",
        "how that is known": dataset.group_reason,
        "limits of the model": " ".join(spec.limits),
        "device": classifier.device,
        "napari-cellclf": __version__,
    }
    return {name: value for name, value in facts.items() if value}


def _check_out(out: Path, *, overwrite: bool) -> None:
    from napari_cellclf.reports.report import METRICS, PAGE, PREDICTIONS

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give the name of a folder")
    there = [name for name in (PAGE, METRICS, PREDICTIONS) if (out / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{out / there[0]} exists; add --overwrite to replace the report, or choose another "
            "--out"
        )


def _load(model: Path, args: argparse.Namespace) -> Classifier:
    from napari_cellclf.inference.load import load_classifier

    return load_classifier(model, engine=args.engine, precision=args.precision)


def _part_words(split: str, noun: str) -> str:
    return f"all {noun}s" if split == "all" else f"its {split} part"


def _ranks(text: str) -> tuple[int, ...]:
    parts: list[Any] = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,3,6")
    return tuple(int(part) for part in parts)


def find_trained(model: str) -> Path:
    """Find the bundle of a model or of a training run."""
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.runs.folder import RunFolder

    run = RunFolder(Path(model))
    if run.is_run and not run.is_finished:
        raise InputError(f"the run {model} has made no model yet; finish it with cellclf train")
    return find_model(run.bundle if run.is_run else model)


def read_labelled(
    data: str,
    *,
    label: str | None,
    group: str | None,
    naming: str | None,
    model: Path,
    kind: Kind | None = None,
    every: int = 1,
    minutes: tuple[int, int] | None = None,
) -> Dataset:
    """Read labelled images, or those of a training run."""
    from dataclasses import replace

    from napari_cellclf.core.grouping import group_keys
    from napari_cellclf.io.datasets import read_dataset
    from napari_cellclf.runs.create import load_dataset
    from napari_cellclf.runs.folder import RunFolder

    run = RunFolder(Path(data))
    if not run.is_run:
        chosen = chosen_naming(naming, model, [data])
        return read_dataset(
            data,
            label=label,
            group=group,
            every=every,
            minutes=minutes,
            kind=kind,
            naming=chosen,
        )
    if naming is not None:
        raise InputError("--naming is for new data; a training run says how its files are named")
    if kind is not None or every != 1 or minutes is not None:
        raise InputError(
            "--kind, --every and --minutes are for new data; a training run has its images already"
        )
    if label is not None:
        raise InputError("--label is for new data; a training run says what its classes are")
    dataset = load_dataset(run)
    if group is None:
        return dataset
    # Raises if there is no such column.
    group_keys(dataset.table, group)
    return replace(dataset, group_column=group, group_reason="asked for with --group-by")


def default_split(dataset: Dataset) -> str:
    """Choose what to evaluate on."""
    parts = set(dataset.table["split"])
    return next((one for one in ("test", "validation") if one in parts), "all")


def part_of(dataset: Dataset, split: str) -> Dataset:
    """Return a part of the images."""
    if split == "all":
        return dataset
    part = dataset.subset((dataset.table["split"] == split).to_numpy())
    if not len(part):
        there = [one for one in dict.fromkeys(dataset.table["split"]) if one]
        raise NoImagesError(
            f"the data have no {split} part (they have {', '.join(there) or 'no split at all'}); "
            "choose another --split, such as all"
        )
    return part
