"""How good a classifier is on labelled images, with intervals, as numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.bootstrap import (
    LEVEL,
    REPLICATES,
    SEED,
    Interval,
    Units,
    bootstrap,
    lowest_rate_without_failure,
    units_of,
)
from napari_cellclf.core.calibration import coverage_curve, reliability
from napari_cellclf.core.classes import ClassSpec, Scale, scale_of
from napari_cellclf.core.counting import counted
from napari_cellclf.core.curves import (
    Curve,
    MakeCurve,
    precision_recall_curve,
    roc_curve,
    thin,
)
from napari_cellclf.core.label_errors import label_doubts
from napari_cellclf.core.metrics import (
    METRICS,
    SET_METRICS,
    ClassScores,
    Metric,
    Outcomes,
    top_k,
)
from napari_cellclf.core.seen_images import seen_warning
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP_K = (1, 3, 6)
#: Roles of images that all train the final model.
CROSS_VALIDATED = ("leave-one-group-out", "k-fold")
SCHEMA_VERSION = 1
#: Points kept of a curve, and up to how many classes each gets its own curves and intervals.
_MOST_POINTS, _MOST_CURVES, _MOST_INTERVALS = 200, 50, 100
_PER_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A classifier's predictions on images whose classes are known, and every metric of them.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K), float32
        One row an image, rows sum to 1, with the model's temperature.
    truth : ndarray of int, shape (N,)
        The right class numbers.
    classes : tuple of ClassSpec
        The K classes, in the order of the columns.
    ids : tuple of str
        The N images.
    groups : tuple of str
        What each image belongs to (a plate, an embryo), empty where nothing is known.
    name : str
        Such as ``"plate 3, held out"``.
    role : str
        What the images were to the model: ``"train"``, ``"validation"``, ``"test"``,
        ``"leave-one-group-out"`` or ``"k-fold"``.
    temperature : float
        That of the model; told only, it is in the probabilities already.
    unsure_threshold : float, optional
        Below this confidence a prediction is to be read as "unsure".
    set_threshold : float, optional
        How probable a class must be to be in the prediction set.
    top_k : tuple of int
        Which top-k accuracies to report; those whose k is not below the number of classes say
        nothing and are left out.
    seen_as : tuple of str
        What each image was when the model was trained: ``"train"``, ``"validation"``, ``"test"``,
        or ``""`` for a new one; empty where that was not compared.
    notes : tuple of str
        Sentences about the images that a reader must know.
    failed : tuple of (str, str)
        Images that could not be classified, and why. They are in no metric.
    noun : str
        What one of them is, in a word: ``"image"`` or ``"object"``.

    Examples
    --------
    >>> table = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> ids = ("a.png", "b.png", "c.png")
    >>> done = Evaluation.from_probabilities(table, [0, 1, 1], ("RPE", "U2OS"), ids=ids)
    >>> round(done.accuracy, 3), done.confusion.tolist(), [done.ids[i] for i in done.mistakes()]
    (0.667, [[1, 0], [1, 1]], ['b.png'])
    """

    probabilities: NDArray[np.float32]
    truth: NDArray[np.int64]
    classes: tuple[ClassSpec, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] = ()
    name: str = ""
    role: str = "test"
    temperature: float = 1.0
    unsure_threshold: float | None = None
    set_threshold: float | None = None
    top_k: tuple[int, ...] = TOP_K
    seen_as: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    noun: str = "image"

    @classmethod
    def from_probabilities(
        cls,
        probabilities: NDArray[np.floating],
        truth: Sequence[int] | NDArray[np.integer],
        classes: Sequence[ClassSpec | str],
        *,
        ids: Sequence[str],
        groups: Sequence[str] | None = None,
        **details: Any,
    ) -> Evaluation:
        """Make an evaluation from plain arrays, having checked that they fit.

        Parameters
        ----------
        probabilities : ndarray, shape (N, K)
            Finite, not negative.
        truth : sequence of int
            N class numbers.
        classes : sequence of ClassSpec or str
            K classes, or their names.
        ids : sequence of str
            N images.
        groups : sequence of str, optional
            The group of each image.
        **details
            The further fields: `name`, `role`, `temperature`, `unsure_threshold`,
            `set_threshold`, `top_k`, `seen_as`, `notes`, `failed`, `noun`.

        Returns
        -------
        Evaluation
            Ready to be asked.

        Raises
        ------
        InputError
            If there are no images, or the arrays do not fit each other.
        """
        numbers = np.asarray(truth, np.int64)
        table = np.asarray(probabilities, np.float32)
        specs = tuple(ClassSpec(name=one) if isinstance(one, str) else one for one in classes)
        members = tuple(map(str, groups)) if groups is not None else ()
        _check_fit(table, numbers, len(specs), len(ids), len(members))
        return cls(table, numbers, specs, tuple(map(str, ids)), members, **details)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(one.name for one in self.classes)

    @cached_property
    def outcomes(self) -> Outcomes:
        """What the metrics are computed from."""
        return Outcomes(
            self.probabilities, self.truth, self.scale, self.unsure_threshold, self.set_threshold
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class number of each image, shape (N,)."""
        return self.outcomes.predicted

    @property
    def confidences(self) -> NDArray[np.float64]:
        """The probability of each predicted class, shape (N,)."""
        return self.outcomes.confidences

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How often each true class (row) was predicted as each class (column)."""
        return self.outcomes.confusion.astype(np.int64)

    @property
    def scores(self) -> ClassScores:
        """Precision, recall and F1 of each class."""
        return self.outcomes.scores

    @cached_property
    def scale(self) -> Scale | None:
        """The scale of ordered classes."""
        return scale_of(self.classes)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The k of `top_k` that say something: below the number of classes, ascending."""
        return tuple(sorted({k for k in self.top_k if 1 <= k < len(self.classes)}))

    @cached_property
    def measured(self) -> dict[str, Metric]:
        """The metrics that these images allow, by name: every installed one, sets, and `top_k`."""
        known = METRICS.all() | SET_METRICS | {f"top_{k}": top_k(k) for k in self.ranks}
        return {name: one for name, one in known.items() if one.applies_to(self.outcomes)}

    @cached_property
    def values(self) -> dict[str, float]:
        """The value of each metric by its name; NaN where one is not defined."""
        return self._measure(np.ones(len(self)))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Intervals that hold 95 % of the replicates of a bootstrap over groups, by metric."""
        return bootstrap(self._measure, self.units)

    @cached_property
    def units(self) -> Units:
        """What is drawn for the intervals."""
        return units_of(self.groups, len(self), self.noun)

    @property
    def accuracy(self) -> float:
        """The fraction of the images that were classified right."""
        return self.values["accuracy"]

    @property
    def balanced_accuracy(self) -> float:
        """The mean over classes of the fraction that was classified right."""
        return self.values["balanced_accuracy"]

    @property
    def majority(self) -> tuple[ClassSpec, float]:
        """The most frequent class of these images, and the accuracy of always predicting it."""
        counts = self.counts
        return self.classes[int(counts.argmax())], float(counts.max() / len(self))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many images each class has, shape (K,)."""
        return np.bincount(self.truth, minlength=len(self.classes))

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / len(self.classes)

    @property
    def seen_warning(self) -> tuple[str, str] | None:
        """Whether the model has seen these images: how serious that is, and a sentence."""
        return seen_warning(self.seen_as, self.role, self.predicted == self.truth, self.noun)

    @property
    def label_doubts(self) -> NDArray[np.float64] | None:
        """How much speaks against each label, shape (N,), see `label_doubts`.

        None where the images are not those that train the final model: whoever cleans a test set
        by what a model says of it makes its accuracy look better than it is.
        """
        if self.role not in CROSS_VALIDATED:
            return None
        return label_doubts(self.probabilities, self.truth)

    def mistakes(self, most: int | None = None) -> list[int]:
        """Return the wrong answers.

        Parameters
        ----------
        most : int, optional
            How many; all if left out.

        Returns
        -------
        list of int
            Rows, the most confident mistake first.
        """
        wrong = np.flatnonzero(self.predicted != self.truth)
        order = np.argsort(-self.confidences[wrong], kind="stable")
        return [int(row) for row in wrong[order][:most]]

    def headline(self) -> dict[str, float]:
        """Return the metrics that a model card holds.

        Returns
        -------
        dict of str to float
            Finite numbers.
        """
        return {
            name: self.values[name]
            for name in self.measured
            if name != "top_1" and math.isfinite(self.values[name])
        }

    def chief(self) -> list[str]:
        """Return the metrics that a summary shows, in its order.

        Returns
        -------
        list of str
            Their names: fractions first, then those that have a scale of their own.
        """
        shown = [name for name, metric in self.measured.items() if metric.chief]
        return sorted(shown, key=lambda name: not self.measured[name].is_fraction)

    def text(self, name: str) -> str:
        """Write the value of a metric as people read it.

        Parameters
        ----------
        name : str
            One of `measured`.

        Returns
        -------
        str
            Such as ``"75.0 %"``; a dash where it is not defined.
        """
        return self.measured[name].text(self.values[name], self.scale.unit if self.scale else "")

    def interval_text(self, name: str) -> str:
        """Write the interval of a metric as people read it.

        Parameters
        ----------
        name : str
            One of `values`.

        Returns
        -------
        str
            Such as ``"70.1 to 79.8 %"``; empty without an interval.
        """
        interval = self.intervals.get(name)
        if interval is None:
            return ""
        metric = self.measured.get(name)
        unit = self.scale.unit if self.scale else ""
        low, high = (
            metric.text(end, unit) if metric else percent(end)
            for end in (interval.low, interval.high)
        )
        return f"{low.split(' ')[0]} to {high}"

    def summary(self) -> str:
        """Return the chief metrics in a few lines.

        Returns
        -------
        str
            Plain text with their intervals and the levels beside them.
        """
        majority, level = self.majority
        size = f"{counted(len(self), self.noun)}, {counted(len(self.classes), 'class')}"
        heading = f"{self.name or self.role}: {size}"
        lines = [f"{heading} ({self.role})" if self.name not in ("", self.role) else heading]
        for name in self.chief():
            between = self.interval_text(name)
            value = self.text(name) + (f"  ({between})" if between else "")
            lines.append(f"  {self.measured[name].title:24} {value}")
        lines.append(f"  {'by chance':24} {percent(self.chance)}")
        lines.append(f"  {f'always {majority.name}':24} {percent(level)}")
        return "\n".join([*lines, *(f"  {note}" for note in _notes(self))])

    def metrics(self) -> dict[str, Any]:
        """Return everything that a report shows, as numbers.

        Returns
        -------
        dict
            Fit for JSON: text, finite numbers, None, lists and dicts. The keys are always the same.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "role": self.role,
            "noun": self.noun,
            "n": len(self),
            "n_failed": len(self.failed),
            "classes": [spec.model_dump() for spec in self.classes],
            **{name: _in_short(self, name) for name in ("accuracy", "balanced_accuracy")},
            "macro_precision": _in_short(self, "macro_precision"),
            "macro_recall": _in_short(self, "balanced_accuracy"),
            "macro_f1": _in_short(self, "macro_f1"),
            "top_k": {str(k): _in_short(self, f"top_{k}") for k in self.ranks},
            "metrics": {name: _in_full(self, name) for name in self.measured},
            "per_class": _per_class(self),
            "macro_roc_auc": _mean_area(_curves(self, roc_curve)),
            "macro_average_precision": _mean_area(_curves(self, precision_recall_curve)),
            "confusion_matrix": {
                "rows": "true",
                "columns": "answered",
                "counts": self.confusion.tolist(),
            },
            "ordered": _ordered(self),
            "calibration": _calibration(self),
            "unsure": _unsure(self),
            "prediction_sets": {
                "threshold": self.set_threshold,
                "coverage": _in_short(self, "set_coverage"),
                "mean_size": _in_short(self, "set_size"),
            },
            "baselines": _baselines(self),
            "intervals": {
                "level": LEVEL,
                "method": "percentile bootstrap",
                "unit": self.units.kind,
                "n_units": self.units.count,
                "replicates": REPLICATES,
                "seed": SEED,
            },
            "notes": _notes(self),
            "failed": [{"image": image, "reason": reason} for image, reason in self.failed],
        }

    def _measure(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Compute every metric, and those of single classes as ``recall/0``, for some weights."""
        outcomes = self.outcomes.weighted(weights)
        values = {name: metric.compute(outcomes) for name, metric in self.measured.items()}
        if len(self.classes) <= _MOST_INTERVALS:
            for name in _PER_CLASS:
                of_classes = getattr(outcomes.scores, name)
                values |= {f"{name}/{number}": float(v) for number, v in enumerate(of_classes)}
        return values


def pooled(
    evaluations: Sequence[Evaluation], *, name: str = "", role: str = "leave-one-group-out"
) -> Evaluation:
    """Put the evaluations of several folds together, each image counting once in its own.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        At least one; all of the same classes.
    name, role : str
        Of the whole.

    Returns
    -------
    Evaluation
        All images in order. The temperature and the thresholds are kept if all agree.

    Raises
    ------
    InputError
        If there is none, or their classes differ.
    """
    if not evaluations or any(one.classes != evaluations[0].classes for one in evaluations):
        raise InputError(
            f"{len(evaluations)} evaluations cannot be put together; give at least one, all of "
            "the same classes"
        )
    first = evaluations[0]
    temperatures = {one.temperature for one in evaluations}
    thresholds = {one.unsure_threshold for one in evaluations}
    of_sets = {one.set_threshold for one in evaluations}
    return replace(
        first,
        probabilities=np.concatenate([one.probabilities for one in evaluations]),
        truth=np.concatenate([one.truth for one in evaluations]),
        ids=tuple(one for part in evaluations for one in part.ids),
        groups=tuple(group for part in evaluations for group in part.groups or ("",) * len(part)),
        seen_as=tuple(seen for part in evaluations for seen in part.seen_as or ("",) * len(part)),
        name=name,
        role=role,
        temperature=first.temperature if len(temperatures) == 1 else 1.0,
        unsure_threshold=first.unsure_threshold if len(thresholds) == 1 else None,
        set_threshold=first.set_threshold if len(of_sets) == 1 else None,
        notes=tuple(dict.fromkeys(note for part in evaluations for note in part.notes)),
        failed=tuple(one for part in evaluations for one in part.failed),
    )


def _check_fit(
    probabilities: NDArray[np.float32],
    truth: NDArray[np.int64],
    n_classes: int,
    n_ids: int,
    n_groups: int,
) -> None:
    if not n_ids or probabilities.shape != (n_ids, n_classes) or truth.shape != (n_ids,):
        raise InputError(
            f"probabilities of shape {probabilities.shape}, {counted(truth.size, 'true class')}, "
            f"{counted(n_ids, 'id')} and {counted(n_classes, 'class')} do not fit; "
            "give one row and one truth for each of at least one image"
        )
    if n_groups not in (0, n_ids):
        raise InputError(
            f"{counted(n_groups, 'group was', 'groups were')} given for {counted(n_ids, 'image')}; "
            "give one for each"
        )
    if not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise InputError("probabilities must be finite and not negative; check the model's output")
    wrong = sorted({int(number) for number in truth if not 0 <= number < n_classes})
    if wrong:
        raise InputError(
            f"true class numbers {wrong[:5]} are not among the {n_classes} classes; use 0 to "
            f"{n_classes - 1}"
        )


def percent(fraction: float) -> str:
    """Write a fraction, 0 to 1, as people read it."""
    return f"{100 * fraction:.1f} %"


def finite(value: float | None) -> float | None:
    """Return a number, or None if it is NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)


def _notes(one: Evaluation) -> list[str]:
    """Return what a reader of the metrics must know."""
    seen = one.seen_warning
    told = [*(seen[1:] if seen else ()), *one.notes, one.units.note]
    if one.failed:
        count = len(one.failed)
        told.append(
            f"{counted(count, f'{one.noun} could', f'{one.noun}s could')} not be classified and "
            f"{'is' if count == 1 else 'are'} in no metric."
        )
    missing = [spec.name for spec, n in zip(one.classes, one.counts, strict=True) if not n]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        told.append(f"Classes without an {one.noun} are in no mean: {listed}.")
    if one.accuracy == 1:
        least = percent(lowest_rate_without_failure(len(one)))
        told.append(
            f"All {counted(len(one), one.noun)} are right, so that resampling shows no spread: if "
            "they were "
            f"independent, a true accuracy of {least} could still do that (95 % Clopper-Pearson)."
        )
    return told


def _in_full(one: Evaluation, name: str) -> dict[str, Any]:
    metric = one.measured[name]
    return {
        "title": metric.title,
        **_in_short(one, name),
        "chance": metric.chance_level(one.counts),
        "higher_is_better": metric.higher_is_better,
    }


def _in_short(one: Evaluation, name: str) -> dict[str, float | None]:
    return _with_interval(one, name, one.values.get(name))


def _with_interval(one: Evaluation, name: str, value: float | None) -> dict[str, float | None]:
    interval = one.intervals.get(name)
    return {
        "value": finite(value),
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }


def _per_class(one: Evaluation) -> list[dict[str, Any]]:
    roc, precision = _curves(one, roc_curve), _curves(one, precision_recall_curve)
    return [
        {
            "class": spec.name,
            "support": int(one.scores.support[number]),
            "answered": int(one.scores.predicted[number]),
            **{
                name: _with_interval(one, f"{name}/{number}", getattr(one.scores, name)[number])
                for name in _PER_CLASS
            },
            "roc_auc": _area(roc[number]),
            "average_precision": _area(precision[number]),
            "roc_curve": _points(one, roc[number], "false_positive_rate", "true_positive_rate"),
            "precision_recall_curve": _points(one, precision[number], "recall", "precision"),
        }
        for number, spec in enumerate(one.classes)
    ]


def _curves(one: Evaluation, make: MakeCurve) -> list[Curve | None]:
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
    if curve is None or len(one.classes) > _MOST_CURVES:
        return None
    fewer = curve.thinned(_MOST_POINTS)
    return {x: fewer.x.round(6).tolist(), y: fewer.y.round(6).tolist()}


def _ordered(one: Evaluation) -> dict[str, Any] | None:
    if one.scale is None:
        return None
    names = ("mean_absolute_error", "within_one_class")
    return {"unit": one.scale.unit, **{name: _in_short(one, name) for name in names}}


def _calibration(one: Evaluation) -> dict[str, Any]:
    bins = reliability(one.probabilities, one.truth)
    return {
        "expected_calibration_error": _in_short(one, "expected_calibration_error"),
        "temperature": one.temperature,
        "mean_confidence": float(one.confidences.mean()),
        "reliability": [
            {
                "from": round(float(bins.edges[i]), 6),
                "to": round(float(bins.edges[i + 1]), 6),
                "count": int(bins.count[i]),
                "confidence": finite(bins.confidence[i]),
                "accuracy": finite(bins.accuracy[i]),
            }
            for i in range(len(bins.count))
        ],
    }


def _unsure(one: Evaluation) -> dict[str, Any]:
    curve = coverage_curve(one.probabilities, one.truth)
    kept = thin(len(curve.threshold), _MOST_POINTS)
    return {
        "threshold": one.unsure_threshold,
        "coverage": _in_short(one, "coverage"),
        "accuracy": _in_short(one, "sure_accuracy"),
        "curve": {
            "threshold": curve.threshold[kept].round(6).tolist(),
            "coverage": curve.coverage[kept].round(6).tolist(),
            "accuracy": curve.accuracy[kept].round(6).tolist(),
        },
    }


def _baselines(one: Evaluation) -> dict[str, Any]:
    majority, level = one.majority
    return {
        "chance": {
            "accuracy": one.chance,
            "balanced_accuracy": one.chance,
            "top_k": {str(k): k / len(one.classes) for k in one.ranks},
        },
        "majority_class": {
            "class": majority.name,
            "accuracy": level,
            "balanced_accuracy": 1 / int(np.count_nonzero(one.counts)),
        },
    }
