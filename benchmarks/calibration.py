"""Calibration error and prediction sets of finished runs on their test images.

    python benchmarks/calibration.py RUN ...

Temperature and threshold are fitted again to the validation predictions in ``RUN/report`` and
measured on the test predictions. The temperature that the run had is undone first. "Error by
chance" is that of as many images whose confidences are exactly right: few images show an error.

    python benchmarks/calibration.py --choose RUN ...

compares how strongly a temperature is held at 1, on the validation predictions alone: it is fitted
to a few of them, and measured on the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from napari_cellclf.core.calibration import (
    SMALLEST_PROBABILITY,
    apply_temperature,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    prediction_set,
    weighted_reliability,
)

DOUBTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SIZES, REPEATS = (10, 20, 30, 50, 100, 200), 30
Pair = tuple["np.ndarray", "np.ndarray"]


def load(run: Path, role: str) -> Pair:
    """Return the predictions of a run without its temperature, and the truth."""
    metrics = json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))
    (one,) = (e for e in metrics["evaluations"] if e["role"] == role)
    table = pd.read_csv(run / "report" / "predictions.csv")
    table = table[table["role"] == role]
    names = [spec["name"] for spec in one["classes"]]
    probabilities = table[[f"p_{name}" for name in names]].to_numpy()
    truth = np.array([names.index(name) for name in table["truth"]])
    return apply_temperature(probabilities, 1 / one["calibration"]["temperature"]), truth


def loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean cross-entropy."""
    of_truth = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).mean())


def by_chance(confidence: np.ndarray) -> float:
    """Return the mean calibration error of honest confidences, by simulation."""
    rng = np.random.default_rng(0)
    drawn = (rng.random(len(confidence)) < confidence for _ in range(REPEATS))
    ones = np.ones(len(confidence))
    found = (weighted_reliability(confidence, right, ones) for right in drawn)
    return float(np.mean([one.expected_calibration_error for one in found]))


def measure(run: Path) -> None:
    """Print one row of the table."""
    found = calibrate(*load(run, "validation"))
    before, truth = load(run, "test")
    after = apply_temperature(before, found.temperature)
    assert found.set_threshold is not None
    held = prediction_set(after, found.set_threshold)
    errors = (expected_calibration_error(one, truth) for one in (before, after))
    best = (before.argmax(axis=1) == truth).mean()
    rows = np.arange(len(truth))
    cells = [
        run.name,
        f"{len(load(run, 'validation')[1])}, {len(truth)}",
        f"{100 * best:.1f} %",
        f"{found.temperature:.2f}",
        *(f"{error:.3f}" for error in errors),
        f"{by_chance(after.max(axis=1).astype(np.float64)):.3f}",
        f"{100 * held[rows, truth].mean():.1f} %",
        f"{held.sum(axis=1).mean():.2f} of {held.shape[1]}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def choose(run: Path) -> None:
    """Print calibration error and cross-entropy for several strengths, on validation images."""
    answers, truth = load(run, "validation")
    rng = np.random.default_rng(0)
    for size in (one for one in SIZES if one <= 0.7 * len(truth)):
        found = np.zeros((len(DOUBTS), 2))
        for _ in range(REPEATS):
            few, rest = np.split(rng.permutation(len(truth)), [size])
            for row, doubt in enumerate(DOUBTS):
                temperature = fit_temperature(answers[few], truth[few], doubt=doubt)
                softened = apply_temperature(answers[rest], temperature)
                error = expected_calibration_error(softened, truth[rest])
                found[row] += np.array([error, loss(softened, truth[rest])]) / REPEATS
        cells = (f"{error:.3f} {entropy:.3f}" for error, entropy in found)
        print(f"| {run.name} | {size} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print a table with one row a run, or several to choose by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--choose", action="store_true", help="compare strengths instead")
    arguments = parser.parse_args()
    heading = [
        "run",
        "validation, test images",
        "right",
        "temperature",
        "error at 1",
        "error after",
    ]
    heading += ["error by chance", "truth in set", "classes in set"]
    if arguments.choose:
        heading = ["run", "images", *(f"doubt {doubt:g}" for doubt in DOUBTS)]
    print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
    for run in arguments.runs:
        (choose if arguments.choose else measure)(run)


if __name__ == "__main__":
    main()
