"""How the figures grow with the number of groups that a preset is trained on.

``python benchmarks/learning_curve.py DATA --preset embryo-stages --test embryo05 embryo06
--groups 1 2 4`` trains on the first 1, 2 and 4 of the other groups and prints a table of what each
network makes of the test groups. All take about as many steps: with fewer groups, each image is
shown more often. Nothing is validated, so that nothing is chosen.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import napari_cellclf as cc
from napari_cellclf.models.training.presets import load_preset

FIGURES = ("accuracy", "top_3", "top_6", "within_one_class")


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--preset", default="embryo-stages")
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--groups", nargs="+", type=int, required=True)
    arguments = parser.parse_args()
    data, config = cc.read_dataset(arguments.data), load_preset(arguments.preset)
    groups = np.array([str(group) for group in data.groups])
    others = [name for name in sorted(set(groups)) if name not in arguments.test]
    most = max(arguments.groups)
    print("| groups | images | " + " | ".join(FIGURES) + " |")
    print("|---" * (2 + len(FIGURES)) + "|")
    for count in arguments.groups:
        train, test = np.isin(groups, others[:count]), np.isin(groups, arguments.test)
        used = data.subset(train | test)
        split = used.with_splits(np.where(test[train | test], "test", "train"))
        longer = config.changed(epochs=round(config.epochs * most / count))
        with tempfile.TemporaryDirectory(prefix="cellclf-curve-") as folder:
            figures = cc.train(split, longer, Path(folder) / "run").evaluation.headline()
        values = " | ".join(f"{figures[name]:.1%}" for name in FIGURES)
        print(f"| {count} | {train.sum()} | {values} |", flush=True)


if __name__ == "__main__":
    main()
