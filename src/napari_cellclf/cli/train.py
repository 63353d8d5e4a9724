"""Train a classifier on labelled images, or resume a run that was stopped or killed.

DATA as for `cellclf data`. With --out a new run begins there; without it, DATA is the folder of a
run that resumes from its last checkpoint. To stop a run, press Ctrl-C, or make a file named "stop"
in its folder: it finishes its step, saves, and ends within 10 seconds. A second Ctrl-C ends it at
once. Either way it can be resumed later.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.cli.data import add_reading_arguments, read_and_split, read_only
from napari_cellclf.cli.options import chosen_settings, image_size, parse_setting, positive
from napari_cellclf.cli.output import plain
from napari_cellclf.cli.terminal import (
    ExitCode,
    ProgressReporter,
    printable,
    printable_lines,
    stream_style,
)
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.runs.api import RunResult

#: What --split takes to hold out one group, or one of K parts, after the other.
LEAVE_ONE_OUT = "leave-one-out"
_FOLD = "-fold"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf train``."""
    add_reading_arguments(parser)
    add_training_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, metavar="RUN", help="folder of the new run; its model gets its name")
    add(
        "--backbone",
        metavar="NAME",
        help="train nothing but a head on the frozen features of this backbone: an ONNX file that "
        "was added (cellclf models add-backbone), or a network with pretrained weights",
    )
    add(
        "--validation",
        type=float,
        metavar="F",
        help="with --split leave-one-out or 5-fold: fraction of the other images to validate "
        "with, so that each fold is calibrated (default none)",
    )
    add(
        "--root",
        type=Path,
        metavar="DIR",
        help="with a run that is resumed: where its images are now, if they were moved",
    )
    add(
        "--accept-changes",
        action="store_true",
        help="with a run that is resumed: go on although settings or lists of images were edited",
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how to train, alike for all commands that do so."""
    # None tells that the preset may decide.
    parser.set_defaults(every=None, minutes=None)
    add = parser.add_argument
    add("--preset", metavar="P", help="a preset (see cellclf train --list-presets), or a .toml")
    add("--list-presets", action=_ListPresets, help="show the presets and exit")
    add("--architecture", metavar="A", help="a network, such as compact-cnn or resnet50")
    add("--weights", metavar="W", help="initial weights: imagenet, none, or a file")
    add("--epochs", type=positive, metavar="N", help="number of epochs")
    add("--batch-size", type=positive, metavar="B", help="images in a batch")
    add(
        "--size",
        type=image_size,
        metavar="HxW|own",
        help="what images are resized to; own keeps each image's own",
    )
    add("--semi-supervised", choices=("pseudo-label", "sgan"), help="how to use --unlabelled")
    add("--unlabelled", metavar="DIR|CSV", help="images without labels to learn from as well")
    add("--json", action="store_true", help="finally, print what came of it as JSON")
    add("--learning-rate", type=float, metavar="R", help="peak learning rate")
    add(
        "--continue-from",
        metavar="BUNDLE",
        help="a model to continue training; classes may be added",
    )
    add(
        "--set",
        type=parse_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, such as augmentation.rotation=0.1 or reproducible=true",
    )


def run(args: argparse.Namespace) -> int:
    """Train."""
    if args.out is None:
        from napari_cellclf.runs.folder import RunFolder

        folder = RunFolder(Path(args.data))
        if not folder.is_run:
            raise InputError(
                f"{args.data} is not a training run to resume; add --out RUN to start one with "
                "these images"
            )
        _refuse_changes(args)
        return _train(
            [folder.path], args.root, as_json=args.json, accept_changes=args.accept_changes
        )
    if args.accept_changes:
        raise InputError("--accept-changes is for a run that is resumed; leave it out")
    if args.root is not None:
        raise InputError(
            "--root is for a run that is resumed; leave it out, DATA says where images are"
        )
    if args.backbone is not None:
        return _train_on_backbone(args)
    settings = chosen_settings(args)
    if args.split == LEAVE_ONE_OUT or (args.split or "").endswith(_FOLD):
        return _train_folds(args, settings.config, settings.preset)
    if args.validation is not None:
        raise InputError(
            f"--validation {args.validation:g} is for --split leave-one-out or a number of folds, "
            "such as 5-fold; use --fractions with other splits"
        )
    from napari_cellclf.runs.create import create_run

    dataset = read_and_split(args)
    made = create_run(dataset, settings.config, args.out, preset=settings.preset)
    return _train([made.path], None, dataset.source, as_json=args.json)


def _refuse_changes(args: argparse.Namespace) -> None:
    """Rather than let a run go on as it was begun, and say nothing of what was typed."""
    options = _given(args, ("data", "root", "json", "accept_changes"))
    if options:
        raise InputError(
            f"{options} cannot be changed for a run that is resumed; leave it out, or start a "
            "new run with --out"
        )


def _given(args: argparse.Namespace, free: Sequence[str]) -> str:
    """List the options that were given, but for some."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    plain = vars(parser.parse_args([os.curdir]))
    changed = [name for name in plain if name not in free and getattr(args, name) != plain[name]]
    return ", ".join(f"--{name.replace('_', '-')}" for name in changed)


def _train_on_backbone(args: argparse.Namespace) -> int:
    """Fit a head to the frozen features of a backbone."""
    parser = argparse.ArgumentParser()
    add_reading_arguments(parser)
    reading = vars(parser.parse_args([os.curdir]))
    options = _given(args, (*reading, "every", "minutes", "out", "backbone", "json"))
    if options:
        raise InputError(
            f"{options} is for training a network, but --backbone trains a head on features that "
            "stay as they are; leave one of them out"
        )
    if args.split == LEAVE_ONE_OUT or (args.split or "").endswith(_FOLD):
        raise InputError(
            f"--split {args.split} cannot be used with --backbone; give random, group, given or a "
            "column"
        )
    from napari_cellclf.cli.stopping import stoppable
    from napari_cellclf.runs.on_backbone import train_on_backbone

    args.every = args.every or 1
    dataset = read_and_split(args)
    reporter = ProgressReporter(stream_style(json=args.json), "training", unit=None)
    with reporter, stoppable(None, reporter.note, reporter.hide) as should_stop:
        reporter.note(dataset.source)
        result = train_on_backbone(
            dataset,
            args.backbone,
            args.out,
            on_progress=reporter,
            on_note=reporter.note,
            should_stop=should_stop,
        )
    _show(result, as_json=args.json)
    return ExitCode.OK


def _train_folds(args: argparse.Namespace, config: TrainingConfig, preset: str) -> int:
    from napari_cellclf.cli.folds import folds_at_once, free_memory
    from napari_cellclf.inference.engine_library import usable_cores
    from napari_cellclf.runs.cross_validation import create_folds, report_folds

    parts = _folds(args)
    folds = create_folds(parts, config, args.out, preset=preset)
    at_once = folds_at_once(usable_cores(), free_memory(), config)
    if min(at_once, len(folds)) > 1:
        _train_beside(folds, at_once, parts[0][1].source, as_json=args.json)
    else:
        _train(folds, None, parts[0][1].source, as_json=args.json)
    role = "leave-one-group-out" if args.split == LEAVE_ONE_OUT else "k-fold"
    evaluation = report_folds(args.out, role)
    report = args.out / "report" / "report.html"
    if args.json:
        _print_json(evaluation, report)
    else:
        _tell(evaluation, report)
    return ExitCode.OK


def _folds(args: argparse.Namespace) -> list[tuple[str, Dataset]]:
    dataset = read_only(args)
    if args.split == LEAVE_ONE_OUT:
        return dataset.leave_one_group_out(
            args.group_by, validation=args.validation, seed=args.seed
        )
    count = args.split.removesuffix(_FOLD)
    if not count.isdigit() or int(count) < 2:
        raise InputError(f"--split {args.split} is not a number of folds, such as 5-fold")
    parts = dataset.k_fold(int(count), args.group_by, validation=args.validation, seed=args.seed)
    return [(str(number), part) for number, part in enumerate(parts, start=1)]


def _train(
    folders: Sequence[Path],
    root: Path | None,
    source: str = "",
    *,
    as_json: bool = False,
    accept_changes: bool = False,
) -> int:
    """Carry runs out; `source` says which images a new one has, and what was left out."""
    from napari_cellclf.cli.stopping import stoppable
    from napari_cellclf.runs.api import run_training
    from napari_cellclf.runs.folder import RunFolder

    style = stream_style(json=as_json)
    for number, folder in enumerate(folders, start=1):
        title = f"run {number} of {len(folders)}" if len(folders) > 1 else "training"
        reporter = ProgressReporter(style, title, unit=None, estimates=False)
        run = RunFolder(folder)
        with reporter, stoppable(run, reporter.note, reporter.hide) as should_stop:
            if number == 1 and source:
                reporter.note(source)
            reporter.begin(f"{title}: starting, which takes some seconds")
            result = run_training(
                folder,
                root=root,
                on_progress=reporter,
                on_event=_Told(reporter, title),
                should_stop=should_stop,
                accept_changes=accept_changes,
            )
        _show(result, as_json=as_json)
    return ExitCode.OK


def _train_beside(folders: Sequence[Path], at_once: int, source: str, *, as_json: bool) -> None:
    """Carry out several runs at a time, with a line of progress for each."""
    from napari_cellclf.cli.folds import Fold, train_beside
    from napari_cellclf.runs.folder import RunFolder

    first = ProgressReporter(stream_style(json=as_json), unit=None, estimates=False)
    folds = []
    for number, folder in enumerate(folders, start=1):
        title = f"run {number} of {len(folders)}"
        reporter = first.beside(title)
        folds.append(Fold(RunFolder(folder), _Told(reporter, title, named=True), reporter))
    with first:
        first.note(source)
        first.note(f"training {at_once} runs at a time")
        train_beside(folds, at_once, first.note, first.hide)
    for fold in folds:
        model = str(fold.run.bundle)
        if as_json:
            _print_metrics(fold.run.report, model)
        else:
            print(f"model:  {printable(model)}")


def _print_metrics(report: Path, model: str) -> None:
    """Print what another process measured, as this one would have."""
    file = report / "metrics.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    document = {
        "model": model,
        "report": None if found is None else str(report / "report.html"),
        "metrics": None if found is None else found["evaluations"][0],
    }
    print(json.dumps(document, allow_nan=False), flush=True)


def _show(result: RunResult, *, as_json: bool) -> None:
    """Print what came of a run."""
    report = result.folder.report / "report.html"
    if as_json:
        _print_json(result.evaluation, report, model=str(result.bundle))
        return
    if result.evaluation is not None:
        _tell(result.evaluation, report)
    print(f"model:  {printable(str(result.bundle))}")


class _Told:
    """Writes what is worth a line of its own, where a run tells of it."""

    def __init__(self, reporter: ProgressReporter, title: str, *, named: bool = False) -> None:
        self._note = (lambda line: reporter.note(f"{title}: {line}")) if named else reporter.note
        self._begin = reporter.begin
        self._title = title

    def __call__(self, record: Mapping[str, Any]) -> None:
        from napari_cellclf.runs.progress_log import beginning_of

        event = record["event"]
        if event == "start":
            self._note(f"{'resuming' if record['resumed'] else 'training'} on {record['device']}")
        elif event == "stage":
            self._begin(f"{self._title}: {beginning_of(record['stage'])}")
        elif event == "note":
            self._note(record["message"])
        elif event == "epoch" and _is_worth_a_line(record):
            self._note(_epoch_line(record))


def _is_worth_a_line(record: Mapping[str, Any]) -> bool:
    """Whether an epoch is told: all of a few, some of many."""
    every = max(1, record["epochs"] // 20)
    return bool(record["epoch"] % every == 0 or record["epoch"] in (1, record["epochs"]))


def _epoch_line(record: Mapping[str, Any]) -> str:
    what = "head" if record["stage"] == "head" else "network"
    line = (
        f"{what}, epoch {record['epoch']} of {record['epochs']}: loss {record['loss']:.3f}, "
        f"accuracy {record['accuracy']:.1%}"
    )
    if record["validation_loss"] is None:
        return line
    return (
        f"{line}; validation loss {record['validation_loss']:.3f}, "
        f"accuracy {record['validation_accuracy']:.1%}"
    )


def _print_json(evaluation: Evaluation | None, report: Path, **more: str) -> None:
    """Print one document a line; without images to measure on, there is no report."""
    measured = evaluation is not None
    document = {
        **more,
        "report": str(report) if measured else None,
        "metrics": plain(evaluation.metrics()) if evaluation is not None else None,
    }
    print(json.dumps(document, allow_nan=False), flush=True)


def _tell(evaluation: Evaluation, report: Path) -> None:
    print(printable_lines(evaluation.summary()))
    print(f"report: {printable(str(report))}")


class _ListPresets(argparse.Action):
    """Print the presets."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from napari_cellclf.models.training.presets import list_presets

        for preset in list_presets():
            print(f"{preset.name}\n    {preset.title}. {preset.description}")
        parser.exit()
