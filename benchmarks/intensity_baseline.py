"""What integrated intensities alone tell: logistic regression on a few numbers of each channel.

    python benchmarks/intensity_baseline.py DATA [--folds 5] [--seed 0]

The folds are those of ``cellclf train DATA --split 5-fold``, so that both see the same images.
Rows: sums of each channel alone; with mean and deviation; with area, maximum, minimum and the sum
above the background. Each without and with class weights.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from napari_cellclf.core.sampling import class_weights
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.read import read_image

FEATURES = {"sums": 1, "sums, means, deviations": 3, "all seven": 7}
#: Strength of the ridge: scikit-learn's C = 10.
RIDGE = 0.1


def describe(path: str) -> np.ndarray:
    """Return seven numbers of each channel, shape (7, C)."""
    pixels = read_image(path).to_cyx().astype(np.float64)
    border = np.concatenate(
        [pixels[:, :3].reshape(len(pixels), -1), pixels[:, -3:].reshape(len(pixels), -1)], 1
    )
    above = pixels - np.median(border, axis=1)[:, None, None]
    spread = 1.48 * np.median(np.abs(above), axis=(1, 2))
    flat = pixels.reshape(len(pixels), -1)
    return np.stack(
        [
            flat.sum(1),
            flat.mean(1),
            flat.std(1),
            (np.abs(above) > 3 * spread[:, None, None]).mean(axis=(1, 2)),
            flat.max(1),
            flat.min(1),
            above.sum(axis=(1, 2)),
        ]
    )


def fit(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Fit a multinomial logistic regression; returns its coefficients, shape (F + 1, K)."""
    design = np.hstack([features, np.ones((len(features), 1))])
    truth = np.eye(n_classes)[labels]
    row_weights = weights[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = flat.reshape(design.shape[1], n_classes)
        logs = log_softmax(design @ coefficients, axis=1)
        slopes = coefficients.copy()
        slopes[-1] = 0
        value = -(row_weights * (truth * logs).sum(1)).sum() + RIDGE / 2 * (slopes**2).sum()
        gradient = design.T @ (row_weights[:, None] * (np.exp(logs) - truth)) + RIDGE * slopes
        return value, gradient.ravel()

    start = np.zeros(design.shape[1] * n_classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000})
    return found.x.reshape(design.shape[1], n_classes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dataset = read_dataset(args.data)
    n_classes = len(dataset.classes)
    found = {path: describe(path) for path in dataset.paths}
    print("| features of each channel | class weights | balanced accuracy | accuracy |")
    print("|---|---|---|---|")
    for name, count in FEATURES.items():
        for weighted in (False, True):
            truth, answers = [], []
            for fold in dataset.k_fold(args.folds, seed=args.seed):
                train, test = (
                    np.stack([found[path][:count].ravel() for path in part.paths])
                    for part in (fold.train, fold.test)
                )
                mean, spread = train.mean(0), train.std(0) + 1e-9
                labels = fold.train.labels
                weights = class_weights(labels, n_classes) if weighted else np.ones(n_classes)
                model = fit((train - mean) / spread, labels, weights, n_classes)
                scores = np.hstack([(test - mean) / spread, np.ones((len(test), 1))]) @ model
                truth.append(fold.test.labels)
                answers.append(scores.argmax(1))
            pair = np.concatenate(truth), np.concatenate(answers)
            print(
                f"| {name} | {'yes' if weighted else 'no'} | {balanced_accuracy_score(*pair):.1%} "
                f"| {accuracy_score(*pair):.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
