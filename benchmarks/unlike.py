"""Which score tells images that are unlike those of training: ours beside others, as one table.

``python benchmarks/unlike.py DATA`` takes the folders ``blood`` (a folder per class, in colour),
``zebrafish`` (``manifest.csv`` with groups) and ``jurkat`` (a folder per class, three channels) in
DATA. Half of the images of one (whole groups) are known, a quarter chooses the threshold, and a
quarter is new; foreign are the images of the others, noise, and for blood the classes that are left
out of all three. Features are those of the frozen EfficientNet-Lite0. For each score, the table
gives the fraction of new images above the threshold, and of foreign ones the area under the ROC
curve and the fraction above it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

import napari_cellclf as cc
from napari_cellclf.core.image import Image
from napari_cellclf.core.unlikeness import Unlikeness, conformal_threshold, smallest_level
from napari_cellclf.models.backbone_child import FeatureEngine
from napari_cellclf.models.backbones import default_backbone

Rows = np.ndarray[Any, Any]
Score = Callable[[Rows], Rows]
LEFT_OUT = ("basophil", "eosinophil", "lymphocyte", "monocyte")
FOREIGN, BATCH = 100, 16


def nearest(known: Rows, labels: Rows) -> Score:
    """Ours: the distance to the nearest known image."""
    fitted = Unlikeness.fit(known)
    return lambda rows: np.asarray(fitted.scores(rows))


def mahalanobis(known: Rows, labels: Rows, relative: bool = False) -> Score:
    """Lee et al. 2018; relative: Ren et al. 2021."""
    means = np.stack([known[labels == one].mean(axis=0) for one in np.unique(labels)])
    within = known - means[np.unique(labels, return_inverse=True)[1]]
    centre = known.mean(axis=0)
    inner, outer = _root(within), _root(known - centre)

    def score(rows: Rows) -> Rows:
        far = np.min([(((rows - mean) @ inner) ** 2).sum(axis=1) for mean in means], axis=0)
        return far - (((rows - centre) @ outer) ** 2).sum(axis=1) if relative else far

    return score


def relative_mahalanobis(known: Rows, labels: Rows) -> Score:
    """Compare the distance to the classes with that to all of them."""
    return mahalanobis(known, labels, relative=True)


def vim(known: Rows, labels: Rows) -> Score:
    """Wang et al. 2022, with the logits of a shrunken linear discriminant."""
    means = np.stack([known[labels == one].mean(axis=0) for one in np.unique(labels)])
    root = _root(known - means[np.unique(labels, return_inverse=True)[1]], shrinkage=0.3)
    kernel = root @ root.T @ means.T
    bias = -((root.T @ means.T) ** 2).sum(axis=0) / 2
    origin = -np.linalg.pinv(kernel.T) @ bias
    axes = np.linalg.eigh((known - origin).T @ (known - origin))[1][:, :-32]

    def logits(rows: Rows) -> Rows:
        return np.asarray(rows @ kernel + bias)

    def residual(rows: Rows) -> Rows:
        return np.asarray(np.linalg.norm((rows - origin) @ axes, axis=1))

    alpha = logits(known).max(axis=1).mean() / residual(known).mean()
    return lambda rows: alpha * residual(rows) - np.logaddexp.reduce(logits(rows), axis=1)


def _root(rows: Rows, shrinkage: float = 0.1) -> Rows:
    covariance = rows.T @ rows / len(rows)
    ball = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * ball)
    return np.asarray(np.linalg.cholesky(inverse))


SCORES: dict[str, Callable[[Rows, Rows], Score]] = {
    "nearest known image (ours)": nearest,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": relative_mahalanobis,
    "ViM": vim,
}


class Features:
    """Computes frozen features as a model for images like one of them would."""

    def __init__(self, like: Image) -> None:
        self._channels = [name or str(number) for number, name in enumerate(like.channels)]
        self._backbone = default_backbone(Image(like.to_cyx(), "CYX", self._channels))
        self._engine = FeatureEngine(self._backbone)

    def __call__(self, images: list[Rows]) -> Rows:
        """Compute ``(N, F)`` of images ``(C, Y, X)``, whose channels are repeated or left out."""
        count = len(self._channels)
        found = []
        for first in range(0, len(images), BATCH):
            some = [one[np.arange(count) % len(one)] for one in images[first : first + BATCH]]
            made = [Image(one, "CYX", self._channels) for one in some]
            found.append(self._engine(np.stack([self._backbone.preprocessing(i) for i in made])))
        return np.concatenate(found).astype(float)


def area(known: Rows, foreign: Rows) -> float:
    """Return how often a foreign image has the larger score."""
    ranks = rankdata(np.concatenate([known, foreign]))[len(known) :]
    return float((ranks.sum() - len(foreign) * (len(foreign) + 1) / 2) / len(known) / len(foreign))


def thirds(data: Any, random: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the part of each image, 0 known, 1 left out and 2 new, and its group."""
    rows = np.arange(len(data))
    groups = np.array([group or str(row) for row, group in zip(rows, data.groups, strict=True)])
    names = random.permutation(np.unique(groups))
    place = {name: 4 * number // len(names) for number, name in enumerate(names)}
    return np.array([max(0, place[group] - 1) for group in groups]), groups


def main() -> None:
    """Read, compute and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=7, help="of the split")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    sets = {name: cc.read_dataset(arguments.data / name) for name in ("blood", "jurkat")}
    sets["zebrafish"] = cc.read_dataset(arguments.data / "zebrafish" / "manifest.csv")
    images = {
        name: [cc.read_image(path).to_cyx() for path in data.paths] for name, data in sets.items()
    }
    noise = [random.integers(0, 256, (3, 300, 300)).astype(np.uint8) for _ in range(20)]
    print(
        "| known | score | new images above | foreign | area | above |\n|---|---|---|---|---|---|"
    )
    for name, data in sets.items():
        features = Features(cc.read_image(data.paths[0]))
        rows = features(images[name])
        names = np.array(data.class_names)[data.labels]
        strange = np.isin(names, LEFT_OUT)
        foreign = {"classes left out": rows[strange]} if strange.any() else {}
        for other in (one for one in sets if one != name):
            drawn = random.permutation(len(images[other]))[:FOREIGN]
            foreign[other] = features([_bytes(images[other][row]) for row in drawn])
        foreign["noise"] = features(noise)
        part, groups = thirds(data, random)
        known, left_out, new = ((part == number) & ~strange for number in range(3))
        level = smallest_level(len(np.unique(groups[left_out])))
        for title, fit in SCORES.items():
            score = fit(rows[known], names[known])
            threshold = conformal_threshold(score(rows[left_out]), groups[left_out], level)
            usual = score(rows[new])
            for other, far in ((key, score(one)) for key, one in foreign.items()):
                print(
                    f"| {name} ({known.sum()}) | {title} | {(usual > threshold).mean():.0%} of "
                    f"{new.sum()} (level {level:.0%}) | {other} ({len(far)}) | "
                    f"{area(usual, far):.3f} | {(far > threshold).mean():.0%} |",
                    flush=True,
                )


def _bytes(pixels: Rows) -> Rows:
    return (255.0 * (pixels / max(float(pixels.max()), 1.0))).astype(np.uint8)


if __name__ == "__main__":
    main()
