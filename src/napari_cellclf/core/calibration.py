"""Make probabilities mean what they say: temperature, its measure, "unsure", prediction sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

SMALLEST_PROBABILITY = 1e-12
#: How many images' worth of doubt hold a temperature at 1 against sharpening; chosen by simulation
#: and on validation images alone (benchmarks/calibration.py compares others). Less against
#: softening: a mistake is evidence at once, a few images that are all right are next to none.
DOUBT = 8.0
_DOUBT_ABOVE_ONE = 1.0
#: Fraction of images whose prediction set should hold the true class.
SET_COVERAGE = 0.9
_BOUNDS = (0.1, 10.0)


@dataclass(frozen=True)
class Calibration:
    """What held-out images say of a classifier's probabilities."""

    temperature: float = 1.0
    unsure_threshold: float | None = None
    #: Classes at least as probable are in the prediction set, which holds the true class of
    #: `SET_COVERAGE` of the images.
    set_threshold: float | None = None
    #: For `apply_temperature`; none unless the classes were balanced in training.
    class_offsets: tuple[float, ...] = ()


def calibrate(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    class_weights: NDArray[np.floating] | None = None,
) -> Calibration:
    """Fit temperature, class offsets and thresholds to held-out images.

    `probabilities`: ndarray, shape (N, K); without temperature. `truth`: ndarray of int, shape
    (N,). `class_weights`: ndarray, shape (K,), optional; how much more an image of each class
    counted in training, where classes were balanced.
    """
    offsets: tuple[float, ...] = ()
    if class_weights is None:
        temperature = fit_temperature(probabilities, truth)
    else:
        temperature, offsets = fit_class_offsets(probabilities, truth, class_weights)
    calibrated = apply_temperature(probabilities, temperature, offsets)
    return Calibration(
        temperature,
        choose_unsure_threshold(calibrated, truth),
        set_threshold(calibrated, truth),
        offsets,
    )


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence and accuracy in intervals of confidence.

    `confidence`, `accuracy`: ndarray, shape (B,); their mean confidence and the part that is right;
    NaN without images.
    """

    #: Ends of the intervals, 0 to 1.
    edges: NDArray[np.float64]
    #: Images whose confidence lies in the interval; an end belongs to the interval above it.
    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, 0 to 1."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gaps * self.count) / self.count.sum())


@dataclass(frozen=True, eq=False)
class CoverageCurve:
    """How right the sure answers are, for every threshold of confidence."""

    #: Different confidences, the highest first.
    threshold: NDArray[np.float64]
    #: Part of the images whose confidence is at least the threshold.
    coverage: NDArray[np.float64]
    #: Part of those that is right.
    accuracy: NDArray[np.float64]

    def at(self, threshold: float) -> tuple[float, float | None]:
        """Return coverage and accuracy where less confident answers count as unsure.

        Returns 0 to 1.
        """
        kept = int(np.count_nonzero(self.threshold >= threshold))
        if not kept:
            return 0.0, None
        return float(self.coverage[kept - 1]), float(self.accuracy[kept - 1])


def apply_temperature(
    probabilities: NDArray[np.floating], temperature: float, class_offsets: Sequence[float] = ()
) -> NDArray[np.float32]:
    """Soften (above 1) or sharpen (below 1) probabilities.

    Dividing logits by a temperature [1]_ equals raising probabilities to its inverse and
    normalising again, so that it works on the output of a softmax.

    `probabilities`: ndarray, shape (N, K); rows sum to 1. `class_offsets`: of K classes, added to
    the logarithms afterwards (`fit_class_offsets`). Returns rows sum to 1; without offsets the
    most probable class stays the same.

    References
    ----------
    .. [1] Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Examples
    --------
    >>> apply_temperature(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.6669999957084656, 0.3330000042915344]]
    """
    logits = (
        np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY)) / temperature
    )
    if len(class_offsets):
        logits = logits + np.asarray(class_offsets, np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def fit_temperature(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], *, doubt: float = DOUBT
) -> float:
    """Find the temperature that held-out images support.

    The temperature that makes the truth most likely goes to 0 where a few images all happen to be
    right. Its logarithm is therefore given a normal prior around 0, narrow below it and wide
    above, and the most probable value is taken: few images cannot sharpen much, many can.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        A classifier's predictions on images it was not trained on.
    truth : ndarray of int, shape (N,)
        The right class of each.
    doubt : float
        Strength of the prior below 0, the inverse of its variance. Every image adds to the
        evidence, so that this is a number of images; 0 for maximum likelihood.

    Returns
    -------
    float
        Between 0.1 and 10; 1 without images.

    Examples
    --------
    >>> right = np.tile([[0.8, 0.2]], (1000, 1))
    >>> few, many = (fit_temperature(right[:n], np.zeros(n, int)) for n in (5, 1000))
    >>> round(few, 2), round(many, 2)
    (0.85, 0.22)
    """
    from scipy.optimize import minimize_scalar

    if not len(truth):
        return 1.0
    rows = np.arange(len(truth))

    def surprise(log_temperature: float) -> float:
        softened = apply_temperature(probabilities, float(np.exp(log_temperature)))
        of_truth = np.maximum(softened[rows, truth].astype(np.float64), SMALLEST_PROBABILITY)
        strength = doubt if log_temperature < 0 else min(doubt, _DOUBT_ABOVE_ONE)
        return float(strength * log_temperature**2 / 2 - np.log(of_truth).sum())

    found = minimize_scalar(surprise, bounds=np.log(_BOUNDS), method="bounded")
    return float(np.exp(found.x))


def fit_class_offsets(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    class_weights: NDArray[np.floating],
    *,
    doubt: float = DOUBT,
) -> tuple[float, tuple[float, ...]]:
    """Find temperature and class offsets for a network whose classes were balanced in training.

    Such a network predicts as if all classes were equally frequent, so that it is too sure of rare
    ones. Dividing its probabilities by the weights would undo this if it had followed them wholly
    [1]_; here they are divided by a power of the weights, which `doubt` holds at 0. It is one
    number for all classes: an offset of its own for each would fit how frequent the classes happen
    to be in the few groups that are held out.

    `probabilities`, `truth`: as for `fit_temperature`. `class_weights`: ndarray, shape (K,), above
    0. Returns the temperature, and K offsets, none if the classes counted the same.

    References
    ----------
    .. [1] Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori
       Probabilities, Neural Computation 14, 2002.

    Examples
    --------
    >>> equal = np.full((1000, 2), 0.5)
    >>> truth = np.repeat([0, 1], [900, 100])
    >>> apply_temperature(equal[:1], *fit_class_offsets(equal, truth, np.array([1, 9]))).round(1)
    array([[0.9, 0.1]], dtype=float32)
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY))
    directions = -np.log(np.asarray(class_weights, np.float64))
    if not len(truth) or not directions.any():
        return fit_temperature(probabilities, truth), ()
    rows = np.arange(len(truth))

    def surprise(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sharp = np.exp(-values[0])
        logarithms = log_softmax(logits * sharp + values[1] * directions, axis=1)
        strengths = np.array([doubt if values[0] < 0 else min(doubt, _DOUBT_ABOVE_ONE), doubt])
        off = np.exp(logarithms)
        off[rows, truth] -= 1
        slopes = np.array([-sharp * (off * logits).sum(), (off @ directions).sum()])
        held = (strengths * values**2).sum() / 2
        return float(held - logarithms[rows, truth].sum()), slopes + strengths * values

    bounds = [tuple(np.log(_BOUNDS)), (0.0, 1.0)]
    found = minimize(surprise, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), tuple((found[1] * directions).tolist())


def set_threshold(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    coverage: float = SET_COVERAGE,
) -> float:
    """Choose how probable a class must be to stay in the prediction set.

    Split conformal prediction with the least ambiguous sets [1]_: if later images are drawn as
    these were, so that their order says nothing, the sets hold the true class of at least
    `coverage` of them on average, however good or bad the classifier is [2]_. Images of a new batch
    are not drawn so, and many images of few groups count for fewer than they are.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        A classifier's predictions on images it was not trained on, with the temperature that it
        will have.
    truth : ndarray of int, shape (N,)
        The right classes.
    coverage : float
        Fraction of later images whose set should hold the true class, below 1.

    Returns
    -------
    float
        For `prediction_set`; 0, so that sets hold all classes, with fewer images than
        ``coverage / (1 - coverage)``, which can promise nothing.

    References
    ----------
    .. [1] Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error
       Levels, JASA 114, 2019.
    .. [2] Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, Springer, 2005.

    Examples
    --------
    >>> sure = np.linspace(0.5, 0.95, 10)
    >>> answers = np.stack([sure, 1 - sure], axis=1)
    >>> set_threshold(answers, np.zeros(10, int))
    0.5
    >>> set_threshold(answers[:8], np.zeros(8, int))
    0.0
    """
    of_truth = np.sort(probabilities[np.arange(len(truth)), truth].astype(np.float64))[::-1]
    # The quantile of a finite sample; rounding must not make 9 of 10 into 10.
    needed = math.ceil(round((len(truth) + 1) * coverage, 9))
    return float(of_truth[needed - 1]) if needed <= len(truth) else 0.0


def prediction_set(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Say which classes are in the prediction set of each image.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        With the model's temperature.
    threshold : float
        From `set_threshold`.

    Returns
    -------
    ndarray of bool, shape (N, K)
        Classes at least as probable as the threshold, and always the most probable one.

    Examples
    --------
    >>> prediction_set(np.array([[0.5, 0.4, 0.1], [0.35, 0.35, 0.3]]), 0.38).tolist()
    [[True, True, False], [True, False, False]]
    """
    # In 64 bits: NumPy would round the threshold to the 32 bits of a network's output.
    found = np.asarray(probabilities, np.float64) >= threshold
    found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
    return np.asarray(found)


def expected_calibration_error(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], bins: int = 10
) -> float:
    """Measure by how much confidence and accuracy differ on average.

    `probabilities`: ndarray, shape (N, K); answers. `truth`: ndarray of int, shape (N,); the right
    classes.
    """
    return reliability(probabilities, truth, bins).expected_calibration_error


def reliability(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], bins: int = 10
) -> Reliability:
    """Compare confidence and accuracy in equal intervals of confidence.

    `probabilities`: ndarray, shape (N, K); answers. `truth`: ndarray of int, shape (N,); the right
    classes.

    Examples
    --------
    >>> answers = np.array([[0.95, 0.05], [0.95, 0.05]])
    >>> found = reliability(answers, np.array([0, 1]))
    >>> float(found.accuracy[-1]), round(found.expected_calibration_error, 2)
    (0.5, 0.45)
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    return weighted_reliability(confidence, right, np.ones(len(truth)), bins)


def weighted_reliability(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    weights: NDArray[np.float64],
    bins: int = 10,
) -> Reliability:
    """Compare confidence and accuracy of images that count several times, or never.

    `confidence`: ndarray, shape (N,); of each answer. `right`: ndarray of bool, shape (N,); whether
    it is right. `weights`: ndarray, shape (N,); how often it counts.
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.asarray(np.bincount(which, weights, minlength=bins), np.float64)
    nothing = np.full(bins, np.nan)
    sums = (np.bincount(which, weights * part, minlength=bins) for part in (confidence, right))
    means = [np.divide(one, count, out=nothing.copy(), where=count > 0) for one in sums]
    return Reliability(np.linspace(0, 1, bins + 1), count, means[0], means[1])


def coverage_curve(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer]
) -> CoverageCurve:
    """Weigh how many answers are kept against how many of those are right.

    `probabilities`: ndarray, shape (N, K); answers. `truth`: ndarray of int, shape (N,); the right
    classes.

    References
    ----------
    El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 11, 2010.

    Examples
    --------
    >>> answers = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    >>> curve = coverage_curve(answers, np.array([0, 0, 1]))
    >>> curve.accuracy.round(2).tolist()
    [1.0, 1.0, 0.67]
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    kept = ends + 1
    return CoverageCurve(
        confidence[order][ends], kept / len(truth), np.cumsum(right[order])[ends] / kept
    )


def is_unsure(confidences: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Say which predictions are unsure, everywhere alike: those below the threshold.

    Examples
    --------
    >>> is_unsure([0.4, 0.5], 0.5).tolist()
    [True, False]
    """
    # In 64 bits: NumPy would round the threshold to the 32 bits of a network's output.
    return np.asarray(np.asarray(confidences, np.float64) < threshold)


def choose_unsure_threshold(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    *,
    target: float = 0.95,
    least_coverage: float = 0.5,
) -> float:
    """Choose below which confidence an answer should be read as "unsure".

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        A classifier's answers on images that it was neither trained nor is tested on, with the
        temperature that it will have.
    truth : ndarray of int, shape (N,)
        The right classes.
    target : float
        What part of the sure answers should be right.
    least_coverage : float
        What part of the images should be answered surely, whatever it costs.

    Returns
    -------
    float
        The confidence of the least sure answer that is kept: as many are kept as the target
        allows. If all may be kept, answers less sure than every one of these images are
        unsure. If the target cannot be met with `least_coverage`, the best accuracy from that
        coverage on is taken.

    Examples
    --------
    >>> answers = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    >>> choose_unsure_threshold(answers, np.array([0, 0, 1]))
    0.8
    """
    curve = coverage_curve(probabilities, truth)
    # The whole set always covers enough.
    enough = np.flatnonzero(curve.coverage >= min(least_coverage, 1.0))
    good = enough[curve.accuracy[enough] >= target]
    if len(good):
        return float(curve.threshold[good[-1]])
    best = curve.accuracy[enough] == curve.accuracy[enough].max()
    return float(curve.threshold[enough[best][-1]])
