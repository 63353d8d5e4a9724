"""The demo from end to end, told in plain words as it goes."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.cli.demo.demo_folder import claim_folder, file_names, write_plate
from napari_cellclf.cli.terminal import ProgressReporter, Style, stop_on_interrupt
from napari_cellclf.core.counting import counted
from napari_cellclf.core.simulation import simulate_plate
from napari_cellclf.core.stains import CELL_TYPES, STAINS
from napari_cellclf.errors import InputError
from napari_cellclf.io.replacing import refusals

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.core.predictions import Predictions
    from napari_cellclf.core.progress import ShouldStop
    from napari_cellclf.core.simulation.site import SimulatedSite
    from napari_cellclf.models.training.config import TrainingConfig

PLATE, NEW_PLATE = "plate", "new-plate"
MODEL = "demo-celltype.cellclf"
TABLE = "predictions.csv"
CONFUSION, MONTAGE = "confusion.png", "new-images.png"
REPORT = "report"
TITLE = "Demo: cell types of simulated images"
WELLS, SITES, NEW_WELLS = 8, 2, 3
HELD_OUT = 0.25
STEPS, CROP = 120, 128
_PLUGIN = "napari-cellclf"


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
        dataset = read_plate(self._out / PLATE)
        self._tell(
            f"2. Read them back and set {_wells(dataset.test)} aside; the other "
            f"{_wells(dataset.train)} are for training."
        )
        self._reporter.begin("loading Keras")
        evaluation = self._train(dataset)
        right = int((evaluation.predicted == evaluation.truth).sum())
        self._tell(
            f"3. Trained a small network (compact-cnn) from scratch, {STEPS} batches.",
            f"4. Evaluated it on the wells set aside: {right} of {len(evaluation)} sites right, "
            f"{right / len(evaluation):.0%} (guessing gives {1 / len(CELL_TYPES):.0%}). The report "
            f"is {self._out / REPORT / 'report.html'}.",
            f"5. Saved it as {self._out / MODEL}, loaded it again and checked its predictions.",
        )
        self._plot_confusion(evaluation, right)

    def _train(self, dataset: Dataset) -> Evaluation:
        """Train as everybody does, and keep model and report of the run."""
        from napari_cellclf.bundles.bundle import OPTIONAL, REQUIRED, ModelBundle
        from napari_cellclf.bundles.write import write_bundle
        from napari_cellclf.runs.api import train

        with tempfile.TemporaryDirectory(prefix=".run-", dir=self._out) as beside:
            result = train(
                dataset,
                configuration(),
                Path(beside, Path(MODEL).stem),
                on_progress=self._reporter,
                should_stop=self._should_stop,
                own_process=False,
            )
            made = ModelBundle.load(result.bundle)
            files = {
                name: made.path / name
                for name in (*REQUIRED, *OPTIONAL)
                if (made.path / name).exists()
            }
            spec = made.spec.model_copy(update={"title": TITLE})
            write_bundle(self._out / MODEL, spec, files, as_zip=True)
            with refusals(self._out / REPORT):
                (self._out / REPORT).mkdir(exist_ok=True)
                for file in result.folder.report.iterdir():
                    file.replace(self._out / REPORT / file.name)
        assert result.evaluation is not None
        return result.evaluation

    def classify_new_images(self) -> None:
        from napari_cellclf.inference.load import load_classifier
        from napari_cellclf.io.sources import collect_sources
        from napari_cellclf.io.tables import write_predictions
        from napari_cellclf.reports.plots import plot_montage

        classifier = load_classifier(self._out / MODEL)
        images = [one.read() for one in collect_sources([self._out / NEW_PLATE / "images"])]
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
            f"6. Classified {counted(len(images), 'image')} of a new plate, taken with other "
            "camera "
            f"settings: {right} of {len(images)} right. The table is {self._out / TABLE}, the "
            f"plots are {self._out / CONFUSION} and {self._out / MONTAGE}."
        )

    def _plot_confusion(self, evaluation: Evaluation, right: int) -> None:
        from napari_cellclf.core.metrics import confusion_matrix
        from napari_cellclf.reports.plots import plot_confusion

        counts = confusion_matrix(evaluation.truth, evaluation.predicted, len(CELL_TYPES))
        title = f"Held-out wells (simulated): {right} of {len(evaluation)} right"
        plot_confusion(counts, evaluation.class_names, self._out / CONFUSION, title=title)

    def _tell(self, *texts: str) -> None:
        self._reporter.hide()
        for text in texts:
            _say(textwrap.fill(text, 88, subsequent_indent="   ", break_on_hyphens=False))


def read_plate(folder: Path) -> Dataset:
    """Read a plate as data to train on, a quarter of the wells of each cell type set aside."""
    from napari_cellclf.io.datasets import read_dataset

    dataset = read_dataset(folder, label="cell_type")
    return dataset.split("well_id", fractions=(1 - HELD_OUT, 0, HELD_OUT))


def configuration() -> TrainingConfig:
    """Return how the demo trains: enough for simulated cells, too little for real ones."""
    from napari_cellclf.models.training.config import TrainingConfig

    return TrainingConfig(
        architecture="compact-cnn",
        parameters={"width": 24, "depth": 4},
        epochs=1,
        steps_per_epoch=STEPS,
        batch_size=16,
        crop=CROP,
        balance="oversample",
        learning_rate=2e-3,
        ema=0.9,
    )


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
    report = [f"{REPORT}/{name}" for name in ("report.html", "metrics.json", "predictions.csv")]
    return [*images, *report, MODEL, TABLE, CONFUSION, MONTAGE]


def _wells(sites: Dataset) -> str:
    return f"{len(set(sites.groups))} wells ({len(sites)} sites)"


def _rows_to_show(predictions: Predictions, truth: list[str]) -> list[int]:
    """Choose the first image of each class, then all that were predicted wrong."""
    first = [truth.index(name) for name in CELL_TYPES]
    wrong = [row for row, label in enumerate(predictions.labels) if label != truth[row]]
    return list(dict.fromkeys([*first, *wrong]))


def _select(predictions: Predictions, rows: list[int]) -> Predictions:
    scores = predictions.unlike_scores
    return replace(
        predictions,
        unlike_scores=None if scores is None else scores[rows],
        remarks=tuple(predictions.remarks[row] for row in rows),
        probabilities=predictions.probabilities[rows],
        ids=tuple(predictions.ids[row] for row in rows),
        metadata=tuple(predictions.metadata[row] for row in rows),
    )


def _say(text: str) -> None:
    print(text, flush=True)


def has_napari() -> bool:
    """Whether napari is installed; it is not imported."""
    return importlib.util.find_spec("napari") is not None


def napari_command(folder: Path) -> list[str]:
    """Return the command that opens a folder with the Classify widget beside it."""
    return ["napari", str(folder), "--plugin", _PLUGIN, "--with", _PLUGIN, "Classify"]


def as_typed(program: str) -> list[str]:
    """Return the words with which the user's shell finds a program of this environment."""
    here = Path(sys.executable).with_name(program + (".exe" if os.name == "nt" else ""))
    found = shutil.which(program)
    if found is not None and Path(found) == here:
        return [program]
    if not here.exists():
        return [sys.executable, "-m", "napari_cellclf" if program == "cellclf" else program]
    inside = here.is_relative_to(Path.cwd())
    return [str(here.relative_to(Path.cwd()) if inside else here)]


def shell_line(words: Sequence[str]) -> str:
    """Join words to a line that can be typed as it is, on this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def install_line() -> str:
    """Return the line that installs napari beside this package."""
    return shell_line([*as_typed("pip"), "install", "napari[all]"])


def require_napari() -> None:
    """Make sure that napari is installed, without importing it."""
    if not has_napari():
        raise InputError(
            f"napari is not installed, so --view cannot work; type {install_line()} or leave "
            "--view out"
        )


def open_napari(folder: Path) -> None:
    """Open a folder of images in napari, and wait until napari is closed."""
    words = napari_command(folder)
    print("Opening napari; close its window to end.", flush=True)
    code = _run(words)
    if code:
        raise InputError(f"napari ended with code {code}; to see why, type: {shell_line(words)}")


def _run(words: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", *words], check=False).returncode
