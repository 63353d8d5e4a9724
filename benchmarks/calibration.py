"""Calibration error and prediction sets of finished runs on their test images.

    python benchmarks/calibration.py RUN ...

Temperature and threshold are fitted again to the validation predictions in ``RUN/report`` and
measured on the test predictions. The temperature that the run had is undone first. In a run of
folds (``cellclf train --split 5-fold --validation 0.2``) each fold has its own, and the test
predictions of all are measured together, so that every image is predicted once.

Few images show an error though there is none. "Error by chance" is that of as many images whose
confidences are exactly right. "Without chance" takes out what chance adds on average: the root
mean square, over intervals of confidence, of the gap between confidence and accuracy, with the
sampling variance of each interval subtracted (Kumar, Liang and Ma, Verified Uncertainty
Calibration, NeurIPS 2019). The error is a mean of these gaps, which is at most their root mean
square. "Of classes" is the mean gap between confidence and accuracy over predicted classes in place
of intervals, and what chance makes of that.

    python benchmarks/calibration.py --choose RUN ...

compares how strongly a temperature is held at 1, on the validation predictions alone: it is fitted
to a few of them, and measured on the others.

    python benchmarks/calibration.py --offsets RUN ...

asks, again on the validation predictions alone, whether more than a temperature would calibrate
better: a power of the class weights (`fit_class_offsets`) where classes were balanced, or an offset
of its own for each class. Groups of images are left out in turn, or a quarter of the images where
there are no groups.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import softmax

from napari_cellclf.bundles.bundle import read_spec
from napari_cellclf.core.calibration import (
    DOUBT,
    SMALLEST_PROBABILITY,
    apply_temperature,
    calibrate,
    expected_calibration_error,
    fit_class_offsets,
    fit_temperature,
    prediction_set,
    weighted_reliability,
)
from napari_cellclf.core.sampling import class_weights

DOUBTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SIZES, REPEATS = (10, 20, 30, 50, 100, 200), 30
Pair = tuple["np.ndarray", "np.ndarray"]
Apply = Callable[["np.ndarray"], "np.ndarray"]
Weights: TypeAlias = "np.ndarray | None"
Fit = Callable[["np.ndarray", "np.ndarray", "np.ndarray | None"], Apply]


def parts_of(run: Path) -> list[Path]:
    """Return the folds of a run, or the run itself."""
    folds = sorted((run / "folds").glob("*/report"))
    return [report.parent for report in folds] or [run]


def load(run: Path, role: str) -> Pair:
    """Return the predictions of a run without its temperature, and the truth."""
    metrics = json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))
    (one,) = (e for e in metrics["evaluations"] if e["role"] == role)
    table = pd.read_csv(run / "report" / "predictions.csv")
    table = table[table["role"] == role]
    names = [spec["name"] for spec in one["classes"]]
    probabilities = table[[f"p_{name}" for name in names]].to_numpy()
    truth = np.array([names.index(name) for name in table["truth"]])
    temperature, offsets = one["calibration"]["temperature"], offsets_of(run)
    without = apply_temperature(probabilities, 1.0, [-offset for offset in offsets])
    return apply_temperature(without, 1 / temperature), truth


def offsets_of(run: Path) -> tuple[float, ...]:
    """Return the class offsets of the model of a run."""
    bundle = run / "model.cellclf"
    return read_spec(bundle).class_offsets if bundle.exists() else ()


def weights_of(run: Path) -> np.ndarray | None:
    """Return how much more an image of each class counted in training, if classes were balanced."""
    if json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["balance"] == "none":
        return None
    metrics = json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))
    names = [spec["name"] for spec in metrics["evaluations"][0]["classes"]]
    table = pd.read_csv(run / "dataset.csv")
    labels = [names.index(name) for name in table[table["split"] == "train"]["label"]]
    return class_weights(np.array(labels), len(names))


def loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean cross-entropy."""
    of_truth = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).mean())


def error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the calibration error: the mean gap over intervals of confidence."""
    found = weighted_reliability(confidence, right, np.ones(len(right)))
    return found.expected_calibration_error


def error_of_classes(confidence: np.ndarray, right: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy over predicted classes."""
    gaps = np.bincount(predicted, confidence - right)
    return float(np.abs(gaps).sum() / len(right))


def by_chance(confidence: np.ndarray, measured: Callable[..., float], *others: np.ndarray) -> float:
    """Return the mean error of honest confidences, by simulation."""
    rng = np.random.default_rng(0)
    drawn = (rng.random(len(confidence)) < confidence for _ in range(REPEATS))
    return float(np.mean([measured(confidence, right, *others) for right in drawn]))


def without_chance(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the root mean square of the gaps, without what chance adds to it on average."""
    found = weighted_reliability(confidence, right, np.ones(len(right)))
    several = found.count > 1
    count, accuracy = found.count[several], found.accuracy[several]
    gaps = (found.confidence[several] - accuracy) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    return float(np.sqrt(max(0.0, (count * gaps).sum() / len(right))))


class Tested(NamedTuple):
    """Test images of one run, calibrated by its validation images."""

    validation: int
    temperature: float
    before: np.ndarray
    after: np.ndarray
    sets: np.ndarray
    truth: np.ndarray


def tested(part: Path) -> Tested:
    """Calibrate on the validation images and apply it to the test images."""
    answers, labels = load(part, "validation")
    found = calibrate(answers, labels, weights_of(part))
    before, truth = load(part, "test")
    after = apply_temperature(before, found.temperature, found.class_offsets)
    assert found.set_threshold is not None
    sets = prediction_set(after, found.set_threshold)
    return Tested(len(labels), found.temperature, before, after, sets, truth)


def measure(run: Path) -> None:
    """Print one row of the table."""
    parts = [tested(part) for part in parts_of(run)]
    before = np.concatenate([one.before for one in parts])
    after = np.concatenate([one.after for one in parts])
    sets = np.concatenate([one.sets for one in parts])
    truth = np.concatenate([one.truth for one in parts])
    temperatures = [one.temperature for one in parts]
    confidence = after.max(axis=1).astype(np.float64)
    predicted = after.argmax(axis=1)
    right = predicted == truth
    present = np.unique(truth)
    recall = np.bincount(truth, right)[present] / np.bincount(truth)[present]
    rows = np.arange(len(truth))
    cells = [
        run.name,
        f"{np.mean([one.validation for one in parts]):.0f}, {len(truth)}",
        f"{100 * right.mean():.1f} %, {100 * recall.mean():.1f} %",
        " to ".join(dict.fromkeys(f"{end:.2f}" for end in (min(temperatures), max(temperatures)))),
        *(f"{expected_calibration_error(one, truth):.3f}" for one in (before, after)),
        f"{by_chance(confidence, error):.3f}",
        f"{without_chance(confidence, right):.3f}",
        f"{error_of_classes(confidence, right, predicted):.3f}, "
        f"{by_chance(confidence, error_of_classes, predicted):.3f}",
        f"{100 * sets[rows, truth].mean():.1f} %",
        f"{sets.sum(axis=1).mean():.2f} of {sets.shape[1]}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def choose(run: Path) -> None:
    """Print calibration error and cross-entropy for several strengths, on validation images."""
    for part in parts_of(run):
        answers, truth = load(part, "validation")
        rng = np.random.default_rng(0)
        for size in (one for one in SIZES if one <= 0.7 * len(truth)):
            found = np.zeros((len(DOUBTS), 2))
            for _ in range(REPEATS):
                few, rest = np.split(rng.permutation(len(truth)), [size])
                for row, doubt in enumerate(DOUBTS):
                    temperature = fit_temperature(answers[few], truth[few], doubt=doubt)
                    softened = apply_temperature(answers[rest], temperature)
                    gap = expected_calibration_error(softened, truth[rest])
                    found[row] += np.array([gap, loss(softened, truth[rest])]) / REPEATS
            cells = (f"{gap:.3f} {entropy:.3f}" for gap, entropy in found)
            print(f"| {part.name} | {size} | {' | '.join(cells)} |", flush=True)


def with_offsets(answers: np.ndarray, truth: np.ndarray, _weights: Weights, doubt: float) -> Apply:
    """Fit a temperature and an offset for each class, each held at 0 by so many images."""
    logits, classes = np.log(np.maximum(answers, SMALLEST_PROBABILITY)), np.eye(answers.shape[1])

    def surprise(values: np.ndarray) -> tuple[float, np.ndarray]:
        sharp = np.exp(-values[0])
        found = softmax(logits * sharp + values[1:], axis=1)
        strength = DOUBT if values[0] < 0 else 1.0
        held = (strength * values[0] ** 2 + doubt * (values[1:] ** 2).sum()) / 2
        off = found - classes[truth]
        slope = strength * values[0] - (off * logits).sum() * sharp
        return held + len(truth) * loss(found, truth), np.append(
            slope, off.sum(axis=0) + doubt * values[1:]
        )

    start = np.zeros(1 + answers.shape[1])
    best = minimize(surprise, start, jac=True, method="L-BFGS-B").x

    def apply(others: np.ndarray) -> np.ndarray:
        sharp = np.log(np.maximum(others, SMALLEST_PROBABILITY)) * np.exp(-best[0])
        return np.asarray(softmax(sharp + best[1:], axis=1))

    return apply


def validation_groups(run: Path) -> np.ndarray:
    """Return which validation images are left out together, as numbers."""
    table = pd.read_csv(run / "report" / "predictions.csv")
    groups = table[table["role"] == "validation"]["group"]
    if groups.notna().all() and 1 < groups.nunique() < len(groups):
        return np.unique(groups.to_numpy(), return_inverse=True)[1]
    return np.random.default_rng(0).permutation(len(groups)) % 4


def alone(answers: np.ndarray, truth: np.ndarray, _weights: Weights) -> Apply:
    """Fit the temperature by itself."""
    return partial(apply_temperature, temperature=fit_temperature(answers, truth))


def with_power(answers: np.ndarray, truth: np.ndarray, weights: Weights, doubt: float) -> Apply:
    """Fit temperature and a power of the class weights, if there are any."""
    if weights is None:
        return alone(answers, truth, weights)
    temperature, found = fit_class_offsets(answers, truth, weights, doubt=doubt)
    return partial(apply_temperature, temperature=temperature, class_offsets=found)


FITS: dict[str, Fit] = {
    "temperature": alone,
    **{f"and weights, doubt {n}": partial(with_power, doubt=n) for n in (4, 16, 64)},
    **{f"and offsets, doubt {n}": partial(with_offsets, doubt=n) for n in (4, 16, 64)},
}


def offsets(run: Path) -> None:
    """Print accuracy, error, error of classes and cross-entropy on left-out validation images."""
    found: dict[str, list[Pair]] = {name: [] for name in FITS}
    for part in parts_of(run):
        (answers, truth), groups = load(part, "validation"), validation_groups(part)
        weights = weights_of(part)
        for out in (groups == number for number in np.unique(groups)):
            for name, fit in FITS.items():
                apply = fit(answers[~out], truth[~out], weights)
                found[name].append((apply(answers[out]), truth[out]))
    cells = []
    for pairs in found.values():
        after, truth = (np.concatenate(one) for one in zip(*pairs, strict=True))
        predicted, confidence = after.argmax(axis=1), after.max(axis=1).astype(np.float64)
        right = predicted == truth
        errors = error(confidence, right), error_of_classes(confidence, right, predicted)
        numbers = " ".join(f"{one:.3f}" for one in (*errors, loss(after, truth)))
        cells.append(f"{100 * right.mean():.1f} % {numbers}")
    print(f"| {run.name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print a table with one row a run, or several to choose by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--choose", action="store_true", help="compare strengths instead")
    parser.add_argument("--offsets", action="store_true", help="try an offset for each class")
    arguments = parser.parse_args()
    heading = ["run", "validation, test images", "right, mean of classes", "temperature"]
    heading += ["error at 1", "error after", "error by chance", "without chance"]
    heading += ["of classes, by chance", "truth in set", "classes in set"]
    if arguments.choose:
        heading = ["run", "images", *(f"doubt {doubt:g}" for doubt in DOUBTS)]
    if arguments.offsets:
        heading = ["run", *FITS]
    print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
    show = choose if arguments.choose else offsets if arguments.offsets else measure
    for run in arguments.runs:
        show(run)


if __name__ == "__main__":
    main()
