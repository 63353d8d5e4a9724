"""How many wrong labels are found: some labels of real images are exchanged, then looked for.

``python benchmarks/label_errors.py DATA/blood`` reads images as `labelling.py` does, gives some of
them the label of another class, and counts how many of the doubted labels are wrong ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from labelling import hidden_labels

from napari_cellclf.core.suggesting import Suggester
from napari_cellclf.models.backbones import default_backbone, row_features


def exchanged(truth: np.ndarray, fraction: float, seed: int) -> tuple[dict[int, int], np.ndarray]:
    """Give some rows the label of another class, drawn at random; returns labels, and which."""
    random = np.random.default_rng(seed)
    n_classes = int(truth.max()) + 1
    wrong = np.zeros(len(truth), bool)
    wrong[random.choice(len(truth), round(fraction * len(truth)), replace=False)] = True
    others = (truth + random.integers(1, n_classes, len(truth))) % n_classes
    return dict(enumerate(np.where(wrong, others, truth).tolist())), wrong


def main() -> int:
    """Print for each fraction what was found among what is doubted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    collection, truth, groups = hidden_labels(options.data)
    features = row_features(collection, default_backbone(collection.read(0))).features
    print("exchanged  doubted  of these exchanged  exchanged ones found  of the first half as many")
    for fraction in (0.0, 0.02, 0.05, 0.1):
        rows = []
        for seed in range(options.seeds):
            labels, wrong = exchanged(truth, fraction, seed)
            suggester = Suggester(features, groups, seed)
            doubts = suggester.check(labels, int(truth.max()) + 1).doubts
            doubted = np.nan_to_num(doubts) > 0
            first = np.argsort(-np.nan_to_num(doubts))[: int(wrong.sum()) // 2]
            hits = (doubted & wrong).sum()
            share = wrong[first].mean() if len(first) else np.nan
            rows.append((doubted.sum(), hits, hits / max(1, wrong.sum()), share))
        doubted, hits, found, share = np.mean(rows, axis=0)
        print(f"{fraction:9.0%}  {doubted:7.0f}  {hits:18.0f}  {found:20.0%}  {share:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
