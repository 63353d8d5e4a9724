"""Metrics: how well predictions fit the truth, each found by its entry point.

While a bootstrap runs, every metric is computed a thousand times. A scikit-learn metric takes 0.4
to 1.2 ms for 1,000 images, and all of ours together take less than 0.1 ms, since they weight counts
instead of repeating images; a test holds them equal to scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_cellclf.core.calibration import is_unsure, prediction_set, weighted_reliability
from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.classes import Scale

#: Keeps the cross-entropy finite where the true class was given no probability.
_SMALLEST_PROBABILITY = 1e-7
#: What stays the same however often each image counts: computed once, not for every replicate.
_PER_IMAGE = ("predicted", "confidences", "ranks", "sets")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Predictions beside the truth, each image counting as often as its weight says.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        One row an image, one column a class.
    truth : ndarray of int, shape (N,)
        The true class numbers.
    scale : Scale, optional
        Where each class lies, for ordered classes.
    threshold : float, optional
        Below this confidence a prediction counts as unsure.
    set_threshold : float, optional
        How probable a class must be to be in the prediction set.
    weights : ndarray of float, shape (N,)
        How often each image counts: 1 in an evaluation, 0, 1, 2, ... in a replicate of a bootstrap.

    Examples
    --------
    >>> outcomes = Outcomes(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    >>> METRICS.get("accuracy").compute(outcomes)
    0.5
    >>> METRICS.get("accuracy").compute(outcomes.weighted(np.array([2.0, 0.0])))
    1.0
    """

    probabilities: NDArray[np.floating]
    truth: NDArray[np.integer]
    scale: Scale | None = None
    threshold: float | None = None
    set_threshold: float | None = None
    weights: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))

    def __post_init__(self) -> None:
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones(len(self.truth)))
        _check_pairs(self.truth, self.probabilities[:, 0])
        _check_classes(self.truth, self.n_classes)

    @property
    def n_classes(self) -> int:
        """How many classes the model predicts."""
        return int(self.probabilities.shape[1])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class number of each image, shape (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """The probability of the predicted class, shape (N,)."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """How many classes were held more probable than the true one, shape (N,)."""
        return truth_ranks(self.truth, self.probabilities)

    @cached_property
    def sets(self) -> NDArray[np.bool_]:
        """Which classes are in the prediction set of each image, shape (N, K)."""
        return prediction_set(self.probabilities, self.set_threshold or 0.0)

    @cached_property
    def scores(self) -> ClassScores:
        """Precision, recall and F1 of each class."""
        return class_scores(self.truth, self.predicted, self.n_classes, self.weights)

    @cached_property
    def confusion(self) -> NDArray[np.float64]:
        """How often each true class (row) was predicted as each class (column), shape (K, K)."""
        flat = np.bincount(
            self.truth * self.n_classes + self.predicted, self.weights, self.n_classes**2
        )
        return np.asarray(flat.reshape(self.n_classes, self.n_classes), np.float64)

    def mean(self, values: NDArray[np.floating | np.integer | np.bool_]) -> float:
        """Return the mean of a number of each image.

        Parameters
        ----------
        values : ndarray, shape (N,)
            Numbers or bools.

        Returns
        -------
        float
            Each image counts as often as its weight says.
        """
        # Not a product of vectors: for that, BLAS starts threads that wait for each other.
        return float((self.weights * values).sum() / self.weights.sum())

    def weighted(self, weights: NDArray[np.float64]) -> Outcomes:
        """Return the same predictions with other weights.

        Parameters
        ----------
        weights : ndarray of float, shape (N,)
            At least one is above 0.

        Returns
        -------
        Outcomes
            Without computing again what does not depend on the weights.
        """
        known = {name: getattr(self, name) for name in _PER_IMAGE}
        other = replace(self, weights=weights)
        vars(other).update(known)
        return other


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    A package adds one by an entry point in the group ``napari_cellclf.metrics``. The name of the
    entry point is what the metric is called in ``metrics.json`` and by ``--metric``.

    Parameters
    ----------
    title : str
        What people read, such as ``"balanced accuracy"``.
    compute : callable
        From `Outcomes` to the number; NaN where it is not defined. Each image must count as often
        as `Outcomes.weights` says, or the intervals are wrong.
    format : str
        How Python formats the number, such as ``".3f"``. One that ends in ``%`` says that the
        number lies between 0 and 1.
    higher_is_better : bool
        Direction.
    chance : float or callable, optional
        What guessing reaches: a number, or a function of how many images each class has, an array
        of shape (K,). None if that is not known.
    needs : tuple of {'scale', 'threshold', 'set_threshold'}
        What `Outcomes` must have: a scale (ordered classes), a threshold of confidence, one of
        prediction sets. Where it has not, the metric is left out.
    chief : bool
        Whether the summary and the report show it first; ``metrics.json`` holds all.
    on_scale : bool
        Whether the number is in the unit of the scale of ordered classes.

    Examples
    --------
    >>> wrong = Metric("error rate", lambda outcomes: outcomes.mean(outcomes.ranks > 0),
    ...                higher_is_better=False)
    >>> wrong.text(0.25)
    '25.0 %'
    """

    title: str
    compute: Callable[[Outcomes], float]
    format: str = ".1%"
    higher_is_better: bool = True
    chance: float | Callable[[NDArray[np.int64]], float] | None = None
    needs: tuple[Literal["scale", "threshold", "set_threshold"], ...] = ()
    chief: bool = True
    on_scale: bool = False

    @property
    def is_fraction(self) -> bool:
        """Whether the number lies between 0 and 1."""
        return self.format.endswith("%")

    def applies_to(self, outcomes: Outcomes) -> bool:
        """Return whether everything that the metric needs is there.

        Parameters
        ----------
        outcomes : Outcomes
            Predictions beside the truth.

        Returns
        -------
        bool
            True if `compute` can be called.
        """
        return all(getattr(outcomes, name) is not None for name in self.needs)

    def chance_level(self, counts: NDArray[np.int64]) -> float | None:
        """Return what guessing reaches.

        Parameters
        ----------
        counts : ndarray of int, shape (K,)
            Images of each class.

        Returns
        -------
        float or None
            None if that is not known.
        """
        return float(self.chance(counts)) if callable(self.chance) else self.chance

    def text(self, value: float | None, unit: str = "") -> str:
        """Write a value as people read it.

        Parameters
        ----------
        value : float or None
            A dash if it is None or NaN.
        unit : str
            Of the scale of ordered classes.

        Returns
        -------
        str
            Such as ``"75.0 %"``.
        """
        if value is None or np.isnan(value):
            return "-"
        number = format(value, self.format).replace("%", " %")
        return f"{number} {unit}".rstrip() if self.on_scale else number


#: Every metric that is installed, ours first.
METRICS: ExtensionPoint[Metric] = ExtensionPoint(
    "napari_cellclf.metrics", "metric", InputError, Metric
)


@dataclass(frozen=True, eq=False)
class ClassScores:
    """How well each class is told from the others.

    References
    ----------
    van Rijsbergen, Information Retrieval, 2nd edition, 1979, chapter 7.
    """

    #: Of the images predicted to be of the class, the fraction that is. 0 for a class that was
    #: never predicted though it is there; NaN for one that is neither.
    precision: NDArray[np.float64]
    #: Of the images of the class, the fraction that was found; NaN for a class without images.
    recall: NDArray[np.float64]
    #: Harmonic mean of both; NaN for a class without images.
    f1: NDArray[np.float64]
    #: How many images are of the class.
    support: NDArray[np.float64]
    #: How many images were predicted to be.
    predicted: NDArray[np.float64]

    def macro(self, name: Literal["precision", "recall", "f1"]) -> float:
        """Return the mean over the classes that have images."""
        values: NDArray[np.float64] = getattr(self, name)
        return float(values[self.support > 0].mean())


def confusion_matrix(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count for each true class (row) what was predicted (column).

    `truth`, `predicted`: class numbers, 0 to `n_classes` - 1.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    _check_pairs(truth, predicted)
    _check_classes(truth, n_classes)
    _check_classes(predicted, n_classes)
    flat = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return np.asarray(flat.reshape(n_classes, n_classes), np.int64)


def class_scores(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    n_classes: int,
    weights: NDArray[np.floating] | None = None,
) -> ClassScores:
    """Compute precision, recall and F1 of every class.

    Examples
    --------
    >>> scores = class_scores(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    >>> scores.recall.tolist(), scores.precision.tolist()
    ([0.5, 1.0], [1.0, 0.5])
    """
    _check_pairs(truth, predicted)
    weights = np.ones(len(truth)) if weights is None else weights
    support, counted, found = (
        np.asarray(np.bincount(numbers, times, minlength=n_classes), np.float64)
        for numbers, times in (
            (truth, weights),
            (predicted, weights),
            (truth, weights * (truth == predicted)),
        )
    )
    there = support > 0
    precision = _ratio(found, counted, otherwise=np.where(there, 0.0, np.nan))
    recall = _ratio(found, support, otherwise=np.full(n_classes, np.nan))
    f1 = np.where(there, 2 * found / np.maximum(support + counted, 1e-12), np.nan)
    return ClassScores(precision, recall, f1, support, counted)


def truth_ranks(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Count the classes that were held more probable than the true one.

    Among equal probabilities the first class counts as the more probable, as in
    `Predictions.top_k`. The true class is among the best k where this is below k.

    Examples
    --------
    >>> truth_ranks(np.array([1, 2]), np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])).tolist()
    [1, 2]
    """
    of_truth = np.take_along_axis(probabilities, truth[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < truth[:, None]
    ahead = (probabilities > of_truth) | ((probabilities == of_truth) & before)
    return np.asarray(ahead.sum(axis=1), np.int64)


def top_k(k: int) -> Metric:
    """Make the metric that accepts the true class among the `k` most probable ones.

    Examples
    --------
    >>> outcomes = Outcomes(np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), np.array([1, 2]))
    >>> top_k(2).compute(outcomes)
    0.5
    """
    if k < 1:
        raise InputError(f"k is {k}; the truth can be looked for among 1 class or more")
    return Metric(
        f"top-{k} accuracy",
        lambda outcomes: outcomes.mean(outcomes.ranks < k),
        chance=lambda counts: min(1.0, k / len(counts)),
        chief=k > 1,
    )


def _ratio(
    part: NDArray[np.float64], whole: NDArray[np.float64], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.divide(part, whole, out=otherwise, where=whole > 0)


def _check_pairs(truth: NDArray[np.integer], predicted: NDArray[np.generic]) -> None:
    if not len(truth) or truth.shape != predicted.shape:
        raise InputError(
            f"{len(truth)} true classes and {len(predicted)} predictions were received; give one "
            "prediction for each of at least one image"
        )


def _check_classes(numbers: NDArray[np.integer], n_classes: int) -> None:
    wrong = np.unique(numbers[(numbers < 0) | (numbers >= n_classes)]).tolist()
    if wrong:
        raise InputError(
            f"class numbers {wrong[:5]} are not among the {n_classes} classes; "
            f"use 0 to {n_classes - 1}"
        )


def _one_class(counts: NDArray[np.int64]) -> float:
    return 1 / len(counts)


def _macro(name: Literal["precision", "recall", "f1"], outcomes: Outcomes) -> float:
    return outcomes.scores.macro(name)


def _loss(outcomes: Outcomes) -> float:
    of_truth = np.take_along_axis(outcomes.probabilities, outcomes.truth[:, None], axis=1)[:, 0]
    return outcomes.mean(-np.log(np.maximum(of_truth, _SMALLEST_PROBABILITY)))


def _calibration_error(outcomes: Outcomes) -> float:
    return weighted_reliability(
        outcomes.confidences, outcomes.ranks < 1, outcomes.weights
    ).expected_calibration_error


def _coverage(outcomes: Outcomes) -> float:
    return outcomes.mean(_sure(outcomes))


def _sure_accuracy(outcomes: Outcomes) -> float:
    sure = outcomes.weights * _sure(outcomes)
    kept = float(sure.sum())
    return float((sure * (outcomes.ranks < 1)).sum()) / kept if kept else float("nan")


def _sure(outcomes: Outcomes) -> NDArray[np.bool_]:
    return ~is_unsure(outcomes.confidences, outcomes.threshold or 0.0)


def _scale_error(outcomes: Outcomes) -> float:
    return outcomes.mean(_scale(outcomes).errors(outcomes.truth, outcomes.predicted))


def _within_one(outcomes: Outcomes) -> float:
    return outcomes.mean(_scale(outcomes).steps(outcomes.truth, outcomes.predicted) <= 1)


def _scale(outcomes: Outcomes) -> Scale:
    if outcomes.scale is None:
        raise InputError("the classes have no order; give each one a value on the same scale")
    return outcomes.scale


ACCURACY = Metric("accuracy", lambda outcomes: outcomes.mean(outcomes.ranks < 1), chance=_one_class)
# The mean over classes: a class of few images counts as much as one of many, so that always
# predicting the most frequent class does not look good (Brodersen et al., ICPR 2010).
BALANCED_ACCURACY = Metric("balanced accuracy", partial(_macro, "recall"), chance=_one_class)
MACRO_PRECISION = Metric("macro precision", partial(_macro, "precision"), chief=False)
MACRO_F1 = Metric("macro F1", partial(_macro, "f1"))
LOSS = Metric(
    "cross-entropy",
    _loss,
    ".3f",
    higher_is_better=False,
    chance=lambda counts: float(np.log(len(counts))),
    chief=False,
)
CALIBRATION_ERROR = Metric(
    "calibration error (ECE)", _calibration_error, ".3f", higher_is_better=False
)
COVERAGE = Metric("coverage", _coverage, needs=("threshold",), chief=False)
SURE_ACCURACY = Metric(
    "accuracy of sure predictions", _sure_accuracy, needs=("threshold",), chief=False
)
SET_METRICS = {
    "set_coverage": Metric(
        "truth in prediction set",
        lambda outcomes: outcomes.mean(
            outcomes.sets[np.arange(len(outcomes.sets)), outcomes.truth]
        ),
        needs=("set_threshold",),
    ),
    "set_size": Metric(
        "classes in set (mean)",
        lambda outcomes: outcomes.mean(outcomes.sets.sum(axis=1)),
        ".2f",
        higher_is_better=False,
        needs=("set_threshold",),
    ),
}
WITHIN_ONE_CLASS = Metric("within one class", _within_one, needs=("scale",))
MEAN_ABSOLUTE_ERROR = Metric(
    "mean error", _scale_error, ".3g", higher_is_better=False, needs=("scale",), on_scale=True
)
