"""Make probabilities mean what they say: temperature scaling and its measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TINY = 1e-12


def apply_temperature(
    probabilities: NDArray[np.floating], temperature: float
) -> NDArray[np.float32]:
    """Soften (above 1) or sharpen (below 1) probabilities.

    Dividing logits by a temperature [1]_ equals raising probabilities to its inverse and
    normalising again, so that it works on the output of a softmax.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        Rows sum to 1.
    temperature : float
        Above 0; 1 changes nothing.

    Returns
    -------
    ndarray, shape (N, K), float32
        Rows sum to 1; the most probable class stays the same.

    References
    ----------
    .. [1] Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Examples
    --------
    >>> apply_temperature(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.6669999957084656, 0.3330000042915344]]
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def fit_temperature(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Find the temperature that makes held-out answers most likely.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        A classifier's answers on images it was not trained on.
    truth : ndarray of int, shape (N,)
        The right class of each.

    Returns
    -------
    float
        Between 0.25 and 10. The bounds keep a handful of answers that all happen to be right
        from sharpening every later one to certainty.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(truth))

    def negative_log_likelihood(log_temperature: float) -> float:
        answers = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(answers[rows, truth], _TINY)).mean())

    bounds = (np.log(0.25), np.log(10.0))
    found = minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def expected_calibration_error(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], bins: int = 10
) -> float:
    """Measure by how much confidence and accuracy differ on average.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        Answers.
    truth : ndarray of int, shape (N,)
        The right classes.
    bins : int
        Equal intervals of confidence.

    Returns
    -------
    float
        0 (honest) to 1; Naeini et al., AAAI 2015.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean()
        for b in range(bins)
        if (which == b).any()
    ]
    return float(sum(gaps))
