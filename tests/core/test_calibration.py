from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_cellclf.core.calibration import (
    apply_temperature,
    choose_unsure_threshold,
    coverage_curve,
    expected_calibration_error,
    fit_temperature,
    reliability,
    weighted_reliability,
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


def two_classes(confidences):
    """Answers of class 0 with these confidences."""
    first = np.asarray(confidences, np.float64)
    return np.stack([first, 1 - first], axis=1)


def test_reliability_of_answers_worked_out_by_hand():
    bins = reliability(two_classes([0.55, 0.95, 0.97]), np.array([1, 0, 1]), bins=10)
    assert bins.count.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert bins.accuracy[[5, 9]].tolist() == [0, 0.5]
    assert bins.confidence[[5, 9]] == pytest.approx([0.55, 0.96])
    assert np.isnan(bins.accuracy[0])
    assert bins.expected_calibration_error == pytest.approx((0.55 + 2 * 0.46) / 3)


def test_weights_count_images_several_times():
    answers, truth = two_classes([0.6, 0.9]), np.array([0, 1])
    weighted = weighted_reliability(
        answers.max(axis=1), answers.argmax(axis=1) == truth, np.array([2.0, 1.0])
    )
    repeated = reliability(answers[[0, 0, 1]], truth[[0, 0, 1]])
    assert weighted.expected_calibration_error == pytest.approx(repeated.expected_calibration_error)


def test_full_confidence_is_in_the_last_interval():
    assert reliability(two_classes([1.0]), np.array([0])).count.tolist() == [0] * 9 + [1]


def test_coverage_with_equal_confidences_is_one_step():
    curve = coverage_curve(two_classes([0.9, 0.9, 0.6]), np.array([0, 1, 0]))
    assert curve.threshold.tolist() == [0.9, 0.6]
    assert curve.coverage == pytest.approx([2 / 3, 1])
    assert curve.accuracy == pytest.approx([0.5, 2 / 3])
    assert curve.at(0.7) == pytest.approx((2 / 3, 0.5))
    assert curve.at(0.95) == (0.0, None)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.5, 1), st.floats(0, 1))
def test_the_threshold_keeps_what_it_promises(n, seed, target, least):
    rng = np.random.default_rng(seed)
    answers, truth = two_classes(rng.uniform(0.5, 1, n)), rng.integers(0, 2, n)
    threshold = choose_unsure_threshold(answers, truth, target=target, least_coverage=least)
    curve = coverage_curve(answers, truth)
    coverage, right = curve.at(threshold)
    assert coverage >= least
    enough = curve.coverage >= least
    reachable = enough & (curve.accuracy >= target)
    if reachable.any():
        assert right >= target
        assert coverage == curve.coverage[reachable].max()
    else:
        assert right == curve.accuracy[enough].max()


def test_the_threshold_of_answers_that_are_all_right_is_the_least_sure_of_them():
    assert choose_unsure_threshold(two_classes([0.9, 0.7]), np.array([0, 0])) == 0.7


def test_the_threshold_of_hopeless_answers_keeps_half():
    answers = two_classes([0.9, 0.8, 0.7, 0.6])
    assert choose_unsure_threshold(answers, np.ones(4, int)) == 0.6
    assert choose_unsure_threshold(answers, np.array([0, 1, 1, 1])) == 0.8


def test_a_probability_of_zero_is_taken_for_a_millionth_of_a_millionth():
    softened = apply_temperature(np.array([[1.0, 0.0]]), 2.0)
    assert softened[0, 1] == pytest.approx(1e-6, rel=1e-3)
    kept = apply_temperature(np.array([[1 - 1e-9, 1e-9]]), 1.0)
    assert kept[0, 1] == pytest.approx(1e-9, rel=1e-3)
