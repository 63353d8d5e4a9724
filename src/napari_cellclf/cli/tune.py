"""Search for good training settings, judged on validation images, or resume such a search.

DATA and settings are those of `cellclf train`; they are the starting point and the first trial of
the search. The same command again resumes the search in DIR, also after a kill, and several such
commands may run at once. To stop, press Ctrl-C, or make a file named "stop" in DIR.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.cli import train
from napari_cellclf.cli.data import add_reading_arguments, read_and_split
from napari_cellclf.cli.options import chosen_settings, positive
from napari_cellclf.cli.output import plain
from napari_cellclf.cli.terminal import (
    ExitCode,
    ProgressReporter,
    printable,
    stop_on_interrupt,
    stream_style,
)
from napari_cellclf.core.progress import ShouldStop, ignore_progress
from napari_cellclf.errors import CancelledError

if TYPE_CHECKING:
    from napari_cellclf.runs.tuning.search import TuningResult
    from napari_cellclf.runs.tuning.search_folder import TuningFolder
    from napari_cellclf.runs.tuning.trial_records import TrialRecord

#: Settings of `runs.tuning`, which would load pydantic here.
_SEARCHED = ("learning_rate", "batch_size", "dropout", "finetune_depth", "augmentation")

#: What is kept of embryo images where nobody asks for less.
_ALL = {"every": 1, "minutes": [51, 204]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf tune``."""
    add_reading_arguments(parser)
    train.add_training_arguments(parser)
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the search: trials.csv, best.toml, plots, and a run for each trial",
    )
    add(
        "--trials",
        type=positive,
        required=True,
        metavar="N",
        help="trials in all, those of earlier commands in DIR included",
    )
    add(
        "--metric",
        type=_metric,
        metavar="NAME",
        help="metric that decides, on the validation images, such as loss, accuracy or "
        "balanced_accuracy; by default what the preset monitors",
    )
    add(
        "--search",
        type=_names,
        default=(),
        metavar="NAME,NAME",
        help=f"what is searched, of {', '.join(_SEARCHED)}; the first two always are",
    )
    add(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="stop after so many seconds, with the best so far; the same command again resumes",
    )
    add(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="number of worker processes (default 1)",
    )
    add(
        "--storage",
        metavar="URL",
        help="keep trials in this database, as Optuna takes it (sqlite:///..., postgresql://...); "
        "by default in a file in DIR",
    )
    add(
        "--apply",
        action="store_true",
        help="finally, retrain with the best settings in DIR/best, and evaluate on the test images",
    )


def run(args: argparse.Namespace) -> int:
    """Search."""
    folder = _create(args)
    style = stream_style(json=args.json)
    with (
        ProgressReporter(style, "tuning, epochs") as reporter,
        stop_on_interrupt() as should_stop,
    ):
        result = _search(args, folder, reporter, should_stop)
        reporter.hide()
        if args.json:
            print(json.dumps(_document(result), allow_nan=False), flush=True)
        else:
            print("\n".join(map(printable, _lines(result))))
    return _apply(result, ["--json"] if args.json else []) if args.apply else ExitCode.OK


def _metric(text: str) -> str:
    from napari_cellclf.core.metrics import METRICS

    if text not in METRICS.names():
        raise argparse.ArgumentTypeError(
            f"no metric {text!r} is installed; choose of {', '.join(METRICS.names())}"
        )
    return text


def _create(args: argparse.Namespace) -> TuningFolder:
    from napari_cellclf.runs.tuning.search_folder import create_search

    settings = chosen_settings(args)
    kept = {"every": args.every, "minutes": list(args.minutes or (51, 204))}
    return create_search(
        read_and_split(args),
        settings.config,
        args.out,
        metric=args.metric,
        search=args.search,
        preset=settings.preset,
        data={name: value for name, value in kept.items() if value != _ALL[name]},
        storage=args.storage,
    )


def _search(
    args: argparse.Namespace,
    folder: TuningFolder,
    reporter: ProgressReporter,
    should_stop: ShouldStop,
) -> TuningResult:
    from napari_cellclf.runs.tuning.search import run_search

    try:
        return run_search(
            folder.path,
            trials=args.trials,
            jobs=args.jobs,
            timeout=args.timeout,
            storage=args.storage,
            # In a log, each trial has a line of its own.
            on_progress=reporter if sys.stderr.isatty() else ignore_progress,
            on_trial=_told(reporter.note, folder.spec().metric),
            should_stop=should_stop,
        )
    except CancelledError as error:
        reporter.note(str(error))
        raise


def _told(
    note: Callable[[str], None], metric: str
) -> Callable[[TrialRecord, TrialRecord | None], None]:
    def tell(trial: TrialRecord, best: TrialRecord | None) -> None:
        chosen = ", ".join(f"{name} {value:.3g}" for name, value in trial.choice.items())
        words = f"trial {trial.number} ({chosen}): "
        if trial.state == "failed":
            words += f"failed: {trial.reason}"
        else:
            words += "" if trial.value is None else f"validation {metric} {trial.value:.4g}"
            words += f", ended after epoch {trial.epochs}" if trial.state == "pruned" else ""
        if best is not None and best.number != trial.number:
            words += f"; best so far {best.value:.4g} (trial {best.number})"
        note(words)

    return tell


def _lines(result: TuningResult) -> list[str]:
    best, folder = result.best, result.folder
    states = [trial.state for trial in result.trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    starts = {one.name: one.start for one in result.spec.ranges}
    lines = [
        f"trial {best.number} is the best of {len(states)} ({', '.join(counts)}): "
        f"validation {result.spec.metric} {best.value:.4g}"
    ]
    first = result.trials[0]
    if first.state == "complete" and first is not best:
        lines.append(f"the settings it began with (trial 0): {first.value:.4g}")
    lines += [
        f"  {name} = {value:.4g} (began with {starts[name]:.4g})"
        for name, value in best.choice.items()
    ]
    return [*lines, f"trials: {folder.table}", f"preset: {folder.best_preset}"]


def _document(result: TuningResult) -> dict[str, Any]:
    best = result.best
    return {
        "trial": best.number,
        "metric": f"validation_{result.spec.metric}",
        "value": plain(best.value),
        "settings": plain(dict(best.choice)),
        "trials": str(result.folder.table),
        "preset": str(result.folder.best_preset),
    }


def _apply(result: TuningResult, as_json: list[str]) -> int:
    from napari_cellclf.runs.tuning.search import create_best

    # As `cellclf train DIR/best` does, which also goes on with it after a stop.
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return train.run(parser.parse_args([*as_json, "--", str(create_best(result).path)]))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().replace("-", "_") for name in text.split(","))
    unknown = [name for name in names if name not in _SEARCHED]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} cannot be searched; choose among {', '.join(_SEARCHED)}"
        )
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
