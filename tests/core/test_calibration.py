from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_cellclf.core.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
)

rows = arrays(np.float64, (3, 4), elements=st.floats(1e-3, 1)).map(
    lambda a: a / a.sum(axis=1, keepdims=True)
)


@given(rows, st.floats(0.25, 10))
def test_temperature_keeps_rows_probabilities_and_the_winner(probabilities, temperature):
    out = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-5)
    winners = probabilities.argmax(axis=1)
    np.testing.assert_allclose(out[np.arange(3), winners], out.max(axis=1), rtol=1e-5)


@given(rows)
def test_temperature_one_changes_nothing(probabilities):
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, atol=1e-6)


def test_a_high_temperature_softens_and_a_low_one_sharpens():
    row = np.array([[0.7, 0.2, 0.1]])
    assert apply_temperature(row, 3.0)[0, 0] < 0.7 < apply_temperature(row, 0.5)[0, 0]


def test_certainty_does_not_break_it():
    out = apply_temperature(np.array([[1.0, 0.0]], np.float32), 2.0)
    assert np.isfinite(out).all()
    assert out.argmax() == 0


def overconfident(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """95 % sure of every answer, and right in 70 % of them."""
    truth = np.random.default_rng(0).random(n) >= 0.7
    return np.tile([[0.95, 0.05]], (n, 1)), truth.astype(int)


def test_the_fitted_temperature_makes_overconfidence_honest():
    probabilities, truth = overconfident()
    temperature = fit_temperature(probabilities, truth)
    honest = apply_temperature(probabilities, temperature)
    assert temperature > 1.5
    assert honest.max(axis=1).mean() == pytest.approx((truth == 0).mean(), abs=0.01)
    assert expected_calibration_error(honest, truth) < 0.02


def test_the_fitted_temperature_has_bounds():
    certain = np.array([[0.9, 0.1]] * 5)
    assert fit_temperature(certain, np.zeros(5, int)) == pytest.approx(0.25, rel=0.01)
    assert fit_temperature(certain, np.ones(5, int)) == pytest.approx(10, rel=0.01)


def test_calibration_error_of_honest_and_of_wrong_answers():
    probabilities, truth = overconfident()
    assert expected_calibration_error(probabilities, truth) == pytest.approx(
        0.95 - (truth == 0).mean()
    )
    sure = np.array([[1.0, 0.0]] * 4)
    assert expected_calibration_error(sure, np.zeros(4, int)) == 0
    assert expected_calibration_error(sure, np.ones(4, int)) == 1
