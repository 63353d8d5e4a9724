"""An evaluation as one document of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.calibration import CoverageCurve, coverage_curve, reliability
from napari_cellclf.core.curves import Curve, precision_recall_curve, roc_curve
from napari_cellclf.core.evaluation import LEVEL, REPLICATES, SEED
from napari_cellclf.core.evaluation_text import known, notes

if TYPE_CHECKING:
    from napari_cellclf.core.evaluation import Evaluation

SCHEMA_VERSION = 1
#: Points kept of a curve, and up to how many classes each gets its own curves.
MOST_POINTS, MOST_CURVES = 200, 50


def document(evaluation: Evaluation) -> dict[str, Any]:
    """Write down everything that a report shows."""
    one = evaluation
    return {
        "schema_version": SCHEMA_VERSION,
        "name": one.name,
        "role": one.role,
        "n": len(one),
        "n_failed": len(one.failed),
        "classes": [spec.model_dump() for spec in one.classes],
        **{name: figure(one, name) for name in ("accuracy", "balanced_accuracy")},
        **{name: figure(one, name) for name in ("macro_precision", "macro_recall", "macro_f1")},
        "top_k": {str(k): figure(one, f"top_{k}") for k in one.ranks},
        "per_class": _per_class(one),
        "macro_roc_auc": _mean_area(_curves(one, roc_curve)),
        "macro_average_precision": _mean_area(_curves(one, precision_recall_curve)),
        "confusion_matrix": {
            "rows": "true",
            "columns": "answered",
            "counts": one.confusion.tolist(),
        },
        "ordered": _ordered(one),
        "calibration": _calibration(one),
        "unsure": _unsure(one),
        "baselines": _baselines(one),
        "intervals": {
            "level": LEVEL,
            "method": "percentile bootstrap",
            "unit": one.units.kind,
            "n_units": one.units.count,
            "replicates": REPLICATES,
            "seed": SEED,
        },
        "notes": notes(one),
        "failed": [{"image": image, "reason": reason} for image, reason in one.failed],
    }


def figure(evaluation: Evaluation, name: str) -> dict[str, float | None]:
    """Return a figure with its interval."""
    interval = evaluation.intervals.get(name)
    return {
        "value": known(evaluation.figures.get(name)),
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }


def _per_class(one: Evaluation) -> list[dict[str, Any]]:
    roc, precision = _curves(one, roc_curve), _curves(one, precision_recall_curve)
    return [
        {
            "class": spec.name,
            "support": int(one.scores.support[number]),
            "answered": int(one.scores.answered[number]),
            "precision": _of_class(one, "precision", number),
            "recall": _of_class(one, "recall", number),
            "f1": _of_class(one, "f1", number),
            "roc_auc": _area(roc[number]),
            "average_precision": _area(precision[number]),
            "roc_curve": _points(one, roc[number], "false_positive_rate", "true_positive_rate"),
            "precision_recall_curve": _points(one, precision[number], "recall", "precision"),
        }
        for number, spec in enumerate(one.classes)
    ]


def _of_class(one: Evaluation, name: str, number: int) -> dict[str, float | None]:
    found = figure(one, f"{name}/{number}")
    return found | {"value": known(float(getattr(one.scores, name)[number]))}


def _curves(one: Evaluation, make: Any) -> list[Curve | None]:
    return [
        make(one.truth == number, one.probabilities[:, number])
        for number in range(len(one.classes))
    ]


def _area(curve: Curve | None) -> float | None:
    return None if curve is None else curve.area


def _mean_area(curves: list[Curve | None]) -> float | None:
    areas = [curve.area for curve in curves if curve is not None]
    return float(np.mean(areas)) if areas else None


def _points(one: Evaluation, curve: Curve | None, x: str, y: str) -> dict[str, list[float]] | None:
    if curve is None or len(one.classes) > MOST_CURVES:
        return None
    thin = curve.thinned(MOST_POINTS)
    return {x: thin.x.round(6).tolist(), y: thin.y.round(6).tolist()}


def _ordered(one: Evaluation) -> dict[str, Any] | None:
    if one.scale is None:
        return None
    return {
        "unit": one.scale.unit,
        "mean_absolute_error": figure(one, "mean_absolute_error"),
        "within_one_class": figure(one, "within_one_class"),
    }


def _calibration(one: Evaluation) -> dict[str, Any]:
    bins = reliability(one.probabilities, one.truth)
    return {
        "expected_calibration_error": figure(one, "expected_calibration_error"),
        "temperature": one.temperature,
        "mean_confidence": float(one.confidences.astype(np.float64).mean()),
        "reliability": [
            {
                "from": round(float(bins.edges[i]), 6),
                "to": round(float(bins.edges[i + 1]), 6),
                "count": int(bins.count[i]),
                "confidence": known(bins.confidence[i]),
                "accuracy": known(bins.accuracy[i]),
            }
            for i in range(len(bins.count))
        ],
    }


def _unsure(one: Evaluation) -> dict[str, Any]:
    curve = coverage_curve(one.probabilities, one.truth)
    return {
        "threshold": one.unsure_threshold,
        "coverage": figure(one, "coverage"),
        "accuracy": figure(one, "sure_accuracy"),
        "curve": _coverage_points(curve),
    }


def _coverage_points(curve: CoverageCurve) -> dict[str, list[float]]:
    kept = np.unique(
        np.linspace(0, len(curve.threshold) - 1, min(MOST_POINTS, len(curve.threshold)))
        .round()
        .astype(int)
    )
    return {
        "threshold": curve.threshold[kept].round(6).tolist(),
        "coverage": curve.coverage[kept].round(6).tolist(),
        "accuracy": curve.accuracy[kept].round(6).tolist(),
    }


def _baselines(one: Evaluation) -> dict[str, Any]:
    majority, level = one.majority
    present = int(np.count_nonzero(one.scores.support))
    return {
        "chance": {
            "accuracy": one.chance,
            "balanced_accuracy": one.chance,
            "top_k": {str(k): k / len(one.classes) for k in one.ranks},
        },
        "majority_class": {
            "class": majority.name,
            "accuracy": level,
            "balanced_accuracy": 1 / present,
        },
    }
