"""The demo from end to end, told in plain words as it goes."""

from __future__ import annotations

import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.cli.demo.folder import claim_folder
from napari_cellclf.cli.demo.plates import file_names, write_plate
from napari_cellclf.cli.demo.training import (
    STEPS,
    Sites,
    figures,
    hold_out_wells,
    predict_sites,
    read_sites,
    save_model,
    train_network,
)
from napari_cellclf.cli.demo.view import (
    as_typed,
    has_napari,
    install_line,
    napari_command,
    shell_line,
)
from napari_cellclf.cli.interrupt import stop_on_interrupt
from napari_cellclf.cli.progress import ProgressReporter, Style
from napari_cellclf.core.metrics import confusion_matrix
from napari_cellclf.core.simulation import simulate_plate
from napari_cellclf.core.stains import CELL_TYPES, STAINS

if TYPE_CHECKING:
    from napari_cellclf.core.predictions import Predictions
    from napari_cellclf.core.progress import ShouldStop
    from napari_cellclf.core.simulation.plate import SimulatedSite

PLATE, NEW_PLATE = "plate", "new-plate"
MODEL = "demo-celltype.cellclf"
TABLE = "predictions.csv"
CONFUSION, MONTAGE = "confusion.png", "new-images.png"

WELLS, SITES, NEW_WELLS = 8, 2, 3


def run_tour(out: Path) -> None:
    """Simulate, read, train, evaluate, classify, save, and say so."""
    started = time.monotonic()
    plate = simulate_plate(wells_per_type=WELLS, sites_per_well=SITES)
    new_plate = simulate_plate(wells_per_type=NEW_WELLS, sites_per_well=1, batch=1, seed=1)
    claim_folder(out, _all_files(plate, new_plate))
    style: Style = "bar" if sys.stderr.isatty() else "none"
    with ProgressReporter(style) as reporter, stop_on_interrupt() as should_stop:
        tour = _Tour(out, reporter, should_stop)
        tour.simulate(plate, new_plate)
        tour.train_and_evaluate()
        tour.classify_new_images()
    _say(f"All of it took {time.monotonic() - started:.0f} s.")
    _say(what_next(out))


class _Tour:
    """The steps, each of which says what it did."""

    def __init__(self, out: Path, reporter: ProgressReporter, should_stop: ShouldStop) -> None:
        self._out = out
        self._reporter = reporter
        self._should_stop = should_stop

    def simulate(self, plate: list[SimulatedSite], new_plate: list[SimulatedSite]) -> None:
        for sites, name in ((plate, PLATE), (new_plate, NEW_PLATE)):
            write_plate(
                sites,
                self._out / name,
                on_progress=self._reporter,
                should_stop=self._should_stop,
            )
        self._tell(
            f"1. Simulated a plate: {len(plate)} sites of {len(CELL_TYPES)} cell types "
            f"({', '.join(CELL_TYPES)}), {WELLS} wells each, in {len(STAINS)} stains, as "
            f"{len(plate) * len(STAINS)} PNG files named like RxRx1's, in {self._out / PLATE}. "
            "These are made-up pictures, not real cells, and easier to tell apart."
        )

    def train_and_evaluate(self) -> None:
        sites = read_sites(self._out / PLATE)
        training, held_out = hold_out_wells(sites)
        self._tell(
            f"2. Read them back and set {_wells(held_out)} aside; the other {_wells(training)} "
            "are for training."
        )
        self._reporter.begin("loading Keras")
        network = train_network(training, self._reporter, self._should_stop)
        self._tell(f"3. Trained a small network (compact-cnn) from scratch, {STEPS} batches.")
        predictions = predict_sites(network, held_out)
        measured = figures(held_out.truth, predictions)
        counts = self._plot_confusion(held_out, predictions)
        self._tell(
            f"4. Evaluated it on the wells set aside: {counts} of {len(held_out)} sites right, "
            f"{measured['accuracy']:.0%} (guessing gives {1 / len(CELL_TYPES):.0%})."
        )
        save_model(network, self._out / MODEL, training, held_out, measured)
        self._tell(f"5. Saved it as {self._out / MODEL}, loaded it again and checked its answer.")

    def classify_new_images(self) -> None:
        from napari_cellclf.inference.load import load_classifier
        from napari_cellclf.io.tables import write_predictions
        from napari_cellclf.reports.plots import plot_montage

        classifier = load_classifier(self._out / MODEL)
        images = read_sites(self._out / NEW_PLATE).images
        predictions = classifier.predict(
            images, on_progress=self._reporter, should_stop=self._should_stop
        )
        write_predictions(predictions, self._out / TABLE)
        truth = [str(row["cell_type"]) for row in predictions.metadata]
        rows = _rows_to_show(predictions, truth)
        plot_montage(
            [images[row] for row in rows],
            _select(predictions, rows),
            self._out / MONTAGE,
            truth=[truth[row] for row in rows],
            title="New images (simulated)",
        )
        right = sum(a == b for a, b in zip(predictions.labels, truth, strict=True))
        self._tell(
            f"6. Classified {len(images)} images of a new plate, taken with other camera "
            f"settings: {right} of {len(images)} right. The table is {self._out / TABLE}, the "
            f"plots are {self._out / CONFUSION} and {self._out / MONTAGE}."
        )

    def _plot_confusion(self, held_out: Sites, predictions: Predictions) -> int:
        from napari_cellclf.reports.plots import plot_confusion

        answers = predictions.probabilities.argmax(axis=1)
        counts = confusion_matrix(held_out.truth, answers, len(CELL_TYPES))
        right = int(counts.trace())
        title = f"Held-out wells (simulated): {right} of {len(held_out)} right"
        plot_confusion(counts, CELL_TYPES, self._out / CONFUSION, title=title)
        return right

    def _tell(self, text: str) -> None:
        self._reporter.hide()
        _say(textwrap.fill(text, 88, subsequent_indent="   ", break_on_hyphens=False))


def what_next(out: Path) -> str:
    """Say what to type next."""
    steps = [
        ("classify the new plate again", _cellclf("predict", out / MODEL, out / NEW_PLATE)),
        ("read what the model is, and its limits", _cellclf("models", "show", out / MODEL)),
        (
            "classify your own folder of real RxRx1 images",
            _cellclf("predict", "rxrx1-celltype", "FOLDER"),
        ),
    ]
    if has_napari():
        words = napari_command(out / NEW_PLATE / "images")
        command = shell_line([*as_typed(words[0]), *words[1:]])
        steps.append(("open the new plate in napari", command))
    else:
        steps.append(("install napari, to look at images", install_line()))
    lines = [f"  {why}:\n    {command}" for why, command in steps]
    return "\n".join(["What to type next:", *lines])


def _cellclf(*words: object) -> str:
    return shell_line([*as_typed("cellclf"), *(str(word) for word in words)])


def _all_files(plate: list[SimulatedSite], new_plate: list[SimulatedSite]) -> list[str]:
    images = [f"{PLATE}/{name}" for name in file_names(plate)]
    images += [f"{NEW_PLATE}/{name}" for name in file_names(new_plate)]
    return [*images, MODEL, TABLE, CONFUSION, MONTAGE]


def _wells(sites: Sites) -> str:
    return f"{len(set(sites.wells))} wells ({len(sites)} sites)"


def _rows_to_show(predictions: Predictions, truth: list[str]) -> list[int]:
    """Choose the first image of each class, and after them all that were answered wrong."""
    first = [truth.index(name) for name in CELL_TYPES]
    wrong = [row for row, label in enumerate(predictions.labels) if label != truth[row]]
    return list(dict.fromkeys([*first, *wrong]))


def _select(predictions: Predictions, rows: list[int]) -> Predictions:
    return replace(
        predictions,
        probabilities=predictions.probabilities[rows],
        ids=tuple(predictions.ids[row] for row in rows),
        metadata=tuple(predictions.metadata[row] for row in rows),
    )


def _say(text: str) -> None:
    print(text, flush=True)
