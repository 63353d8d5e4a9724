"""How many labels are needed, and whether the estimate is honest: replays with hidden labels.

``python benchmarks/labelling.py DATA/blood`` reads a folder of classes as one flat collection,
and gives each row that is offered its hidden label, as a user would;
``DATA/zebrafish/manifest.csv`` is a table with columns ``path``, ``label`` and ``group``. Beside
it, the same head is fitted to rows in random order.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.suggesting import Suggester
from napari_cellclf.io.collections import open_collection
from napari_cellclf.models.backbones import default_backbone, row_features

COUNTS = (30, 100, 200)


def hidden_labels(data: Path) -> tuple[Collection, np.ndarray, np.ndarray | None]:
    """Open images, and look up the labels and groups that the bench is not told."""
    if data.is_dir():
        files = sorted(path for path in data.glob("*/*") if path.is_file())
        labels, groups = [path.parent.name for path in files], None
    else:
        with data.open(newline="") as table:
            rows = list(csv.DictReader(table))
        files = [data.parent / row["path"] for row in rows]
        labels, groups = [row["label"] for row in rows], np.array([row["group"] for row in rows])
    collection = open_collection(files)
    numbers = {str(path.resolve()): number for number, path in enumerate(files)}
    order = [numbers[str(Path(row.source).resolve())] for row in collection.rows]
    truth = np.unique(labels, return_inverse=True)[1][order]
    return collection, truth, None if groups is None else groups[order]


def in_new_groups(suggester: Suggester, labels: dict[int, int], truth, groups) -> float:
    """Measure the accuracy in every group by what is learnt from the others, all rows alike."""
    right = np.zeros(len(truth), bool)
    for group in np.unique(groups):
        inside = groups == group
        known = {row: label for row, label in labels.items() if not inside[row]}
        head = suggester.head(known, truth.max() + 1)
        predicted = np.array(head.classes)[head(suggester.features[inside]).argmax(axis=1)]
        right[inside] = predicted == truth[inside]
    return right.mean()


def replay(features, truth, groups, seed: int, chosen: bool) -> dict[int, tuple[float, ...]]:
    """Label what is offered; returns accuracy, and the interval with what it should hold."""
    suggester = Suggester(features, groups, seed)
    suggester.features = features
    n_classes = int(truth.max()) + 1
    in_random_order = np.random.default_rng(seed).permutation(len(truth)).tolist()
    labels: dict[int, int] = {}
    drawn: list[int] = []
    found = {}
    while True:
        told = suggester.refit(labels, n_classes, drawn)
        if len(labels) in COUNTS:
            rest = told.order
            accuracy = (told.probabilities[rest].argmax(axis=1) == truth[rest]).mean()
            estimate = suggester.estimate(labels, n_classes, drawn) if chosen else None
            held = accuracy
            if estimate is not None and groups is not None:
                held = in_new_groups(suggester, labels, truth, groups)
            interval = (np.nan, np.nan) if estimate is None else (estimate.low, estimate.high)
            found[len(labels)] = (accuracy, held, *interval)
        if len(labels) == max(COUNTS):
            return found
        row = int(told.order[0]) if chosen else in_random_order[len(labels)]
        if chosen and told.next_is_random:
            drawn.append(row)
        labels[row] = int(truth[row])


def seconds_of_a_refit(features, truth, rows: int, n_labels: int) -> float:
    """Measure a refit with so many rows, which are those of the collection again and again."""
    random = np.random.default_rng(0)
    repeated = np.arange(rows) % len(features)
    noisy = features[repeated] + 0.01 * random.normal(size=(rows, features.shape[1]))
    suggester = Suggester(noisy.astype(np.float32))
    labels = {int(row): int(truth[repeated[row]]) for row in random.permutation(rows)[:n_labels]}
    times = []
    for _ in range(20):
        began = time.perf_counter()
        suggester.refit(labels, int(truth.max()) + 1, list(labels)[::5])
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    """Replay, and print what `docs/results.md` states."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    collection, truth, groups = hidden_labels(options.data)
    features = row_features(collection, default_backbone(collection.read(0))).features
    print(f"{len(truth)} images, {truth.max() + 1} classes, {options.seeds} seeds")
    for chosen in (True, False):
        runs = [replay(features, truth, groups, seed, chosen) for seed in range(options.seeds)]
        for count in COUNTS:
            accuracy, held, low, high = np.array([run[count] for run in runs]).T
            line = f"{'as offered' if chosen else 'at random'}, {count} labels: "
            line += f"{100 * accuracy.mean():.1f} % on the rest (sd {100 * accuracy.std():.1f})"
            if chosen and np.isfinite(low).all():
                inside = int(((low <= held) & (held <= high)).sum())
                line += f"; {100 * held.mean():.1f} % in the interval {inside} of {len(runs)} times"
                line += f", mean width {100 * (high - low).mean():.0f}"
            print(line, flush=True)
    for n_labels in (100, 1000):
        taken = seconds_of_a_refit(features, truth, 5000, n_labels)
        print(f"a refit with 5000 rows and {n_labels} labels: {taken:.3f} s")


if __name__ == "__main__":
    main()
