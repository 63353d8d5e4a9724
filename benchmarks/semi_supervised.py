"""Do images without labels help? Few labels alone, with pseudo-labels, and with a generator.

``python benchmarks/semi_supervised.py DATA/blood --out FOLDER`` takes a folder of classes. Of each
class 50 images are the test images, always the same ones, and choose nothing. Of the others each
seed draws ``--labels`` (20) for training and 5 for validation, which choose the epoch; the rest are
given without their labels. All three ways take the same number of steps from the same random
weights. Each run is kept in FOLDER and resumed there; what was measured is in ``results.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import napari_cellclf as cc
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run

WAYS = {"labels only": "none", "pseudo-label": "pseudo-label", "sgan": "sgan"}
TEST, VALIDATION = 50, 5


def divide(data: Dataset, labels: int, seed: int) -> tuple[Dataset, list[str]]:
    """Return the labelled images with their splits, and the paths of the others."""
    splits = np.full(len(data), "", object)
    for number in range(len(data.classes)):
        rows = np.flatnonzero(data.labels == number)
        rows = np.random.default_rng([0, number]).permutation(rows)
        splits[rows[:TEST]] = "test"
        rest = np.random.default_rng([1 + seed, number]).permutation(rows[TEST:])
        splits[rest[:labels]] = "train"
        splits[rest[labels : labels + VALIDATION]] = "validation"
    paths = np.array(data.paths, object)[splits == ""]
    return data.with_splits(splits).subset(splits != ""), paths.tolist()


def configuration(asked: argparse.Namespace, way: str, table: Path, seed: int) -> TrainingConfig:
    """Return the settings, which differ between the ways in one."""
    return TrainingConfig(
        size=(asked.size, asked.size),
        centre=0.6,
        augmentation=AugmentationConfig.off(
            flips=True, rotation=0.5, shift=0.05, zoom=0.15, gain=0.1, offset=0.1, cutout=0.5
        ),
        epochs=asked.epochs,
        steps_per_epoch=asked.steps,
        learning_rate=2e-3,
        weight_decay=1e-2,
        ema=0.98,
        seed=seed,
        semi_supervised=WAYS[way],
        unlabelled=str(table) if WAYS[way] != "none" else None,
    )


def measure(data: Dataset, way: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Train once, and return what the test images say."""
    labelled, others = divide(data, asked.labels, seed)
    table = asked.out / f"unlabelled-{seed}.csv"
    table.write_text("\n".join(["path", *others]) + "\n", encoding="utf-8")
    folder = asked.out / f"{way.replace(' ', '-')}-{seed}"
    if not (folder / "run.json").is_file():
        create_run(labelled, configuration(asked, way, table, seed), folder)
    began = time.process_time()
    run_training(folder)
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    test = next(one for one in metrics["evaluations"] if one["role"] == "test")
    return {
        "way": way,
        "seed": seed,
        "accuracy": test["accuracy"]["value"],
        "loss": test["metrics"]["loss"]["value"],
        "unlabelled": len(others),
        "seconds": round(time.process_time() - began),
    }


def print_table(found: list[dict[str, Any]], seeds: list[int]) -> None:
    """Print a row a way, with each seed and their mean."""
    print(f"| way | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | processor |")
    print(f"|{'---|' * (len(seeds) + 3)}")
    for way in WAYS:
        of_way = {one["seed"]: one for one in found if one["way"] == way}
        some = [of_way[seed] for seed in seeds if seed in of_way]
        if some:
            cells = [f"{100 * one['accuracy']:.1f} %" for one in some]
            mean = np.mean([one["accuracy"] for one in some])
            seconds = np.mean([one["seconds"] for one in some])
            print(f"| {way} | {' | '.join(cells)} | {100 * mean:.1f} % | {seconds:.0f} s |")


def main() -> None:
    """Train all that is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    asked.out = asked.out.absolute()
    asked.out.mkdir(parents=True, exist_ok=True)
    data = cc.read_dataset(asked.data)
    results = asked.out / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    found = [json.loads(line) for line in lines]
    for seed in asked.seeds:
        for way in asked.ways:
            if any((one["way"], one["seed"]) == (way, seed) for one in found):
                continue
            found.append(measure(data, way, seed, asked))
            with results.open("a") as file:
                print(json.dumps(found[-1]), file=file)
            print(found[-1], flush=True)
    print_table(found, asked.seeds)


if __name__ == "__main__":
    main()
