"""Matthews' correlation: one number for the whole confusion matrix, 1 is perfect, 0 is chance."""

from __future__ import annotations

import numpy as np

from napari_cellclf.core.metrics import Metric, Outcomes


def correlation(outcomes: Outcomes) -> float:
    """Correlate true and predicted classes (Gorodkin, Comput. Biol. Chem. 28, 2004)."""
    # Weighted counts: in a bootstrap, an image may count several times, or not at all.
    counts = outcomes.confusion
    true, predicted, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    covariance = total * np.trace(counts) - true @ predicted
    spread = (total**2 - true @ true) * (total**2 - predicted @ predicted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else float("nan")


MATTHEWS = Metric("Matthews' correlation", correlation, format=".3f", chance=0.0)
