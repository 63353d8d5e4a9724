from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_cellclf.core.calibration import (
    DOUBT,
    SET_COVERAGE,
    apply_temperature,
    calibrate,
    choose_unsure_threshold,
    coverage_curve,
    expected_calibration_error,
    fit_class_offsets,
    fit_temperature,
    prediction_set,
    reliability,
    set_threshold,
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
    assert 0.1 <= fit_temperature(certain, np.zeros(5, int), doubt=0) < 0.2
    assert fit_temperature(certain, np.ones(5, int), doubt=0) == pytest.approx(10, rel=0.01)


def test_no_images_leave_the_temperature_at_one():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1
    assert fit_temperature(np.full((1, 3), 1 / 3), np.zeros(1, int)) == pytest.approx(1, abs=1e-4)


@given(rows, st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_more_of_the_same_images_move_the_temperature_further(probabilities, seed, times):
    truth = np.random.default_rng(seed).integers(0, 4, 3)
    few, many, likeliest = (
        np.log(fit_temperature(np.tile(probabilities, (n, 1)), np.tile(truth, n), doubt=doubt))
        for n, doubt in ((times, 16), (2 * times, 16), (1, 0))
    )
    # Between no change and what is most likely, always towards the latter.
    assert abs(few) <= abs(many) + 1e-3
    assert abs(many) <= abs(likeliest) + 1e-3
    assert few * many >= -1e-4


@given(rows, st.integers(0, 2**32 - 1))
def test_more_doubt_moves_the_temperature_less(probabilities, seed):
    truth = np.random.default_rng(seed).integers(0, 4, 3)
    moved = [abs(np.log(fit_temperature(probabilities, truth, doubt=d))) for d in (1, 4, 16, 64)]
    assert moved == sorted(moved, reverse=True) or np.ptp(moved) < 1e-3


def test_many_images_decide_as_if_there_were_no_doubt():
    _, truth = overconfident(20_000)
    for sure in (0.95, 0.6):
        answers = two_classes([sure] * len(truth))
        likeliest = fit_temperature(answers, truth, doubt=0)
        assert fit_temperature(answers, truth) == pytest.approx(likeliest, rel=0.01)
        assert likeliest != pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("confidence", [0.8, 0.85, 0.9])
def test_thirty_images_that_are_all_right_sharpen_but_not_to_certainty(confidence):
    answers = two_classes([confidence] * 30)
    right = np.zeros(30, int)
    calibrated, without_doubt = (
        apply_temperature(answers, fit_temperature(answers, right, doubt=doubt))[0, 0]
        for doubt in (DOUBT, 0)
    )
    assert without_doubt > 0.999
    # 30 of 30 are consistent with a true accuracy of 90 %: 4 samples in 100 look like that.
    assert confidence < calibrated < 0.97


def test_thirty_images_leave_an_honest_classifier_honest():
    """Its accuracy is 90 %; what 30 validation images do to it on average."""
    rng = np.random.default_rng(0)

    def draw(n):
        logits = rng.normal(2.6, 1.0, n)
        first = 1 / (1 + np.exp(-logits))
        return two_classes(first), (rng.random(n) > first).astype(int)

    later, truth = draw(20_000)
    assert (later.argmax(axis=1) == truth).mean() == pytest.approx(0.9, abs=0.01)
    samples = [draw(30) for _ in range(60)]
    gaps = {
        doubt: [
            apply_temperature(later, fit_temperature(*sample, doubt=doubt)).max(axis=1).mean()
            - (later.argmax(axis=1) == truth).mean()
            for sample in samples
        ]
        for doubt in (0, DOUBT)
    }
    assert max(gaps[0]) > 0.08
    assert max(gaps[DOUBT]) < 0.05
    assert np.mean(gaps[DOUBT]) == pytest.approx(0, abs=0.03)


@given(st.integers(0, 60), st.integers(0, 2**32 - 1), st.floats(0.5, 0.99))
def test_sets_hold_the_promised_fraction_of_the_images_they_were_fitted_to(n, seed, coverage):
    rng = np.random.default_rng(seed)
    answers, truth = rng.dirichlet(np.ones(4), n), rng.integers(0, 4, n)
    held = prediction_set(answers, set_threshold(answers, truth, coverage))
    assert held.any(axis=1).all()
    assert (held[np.arange(n), answers.argmax(axis=1)]).all()
    right = held[np.arange(n), truth].sum()
    assert right >= coverage * n
    if (n + 1) * coverage > n + 1e-6:
        assert held.all()


def test_sets_hold_the_truth_of_new_images_whatever_the_classifier():
    rng = np.random.default_rng(1)
    hold, sizes = [], []
    for _ in range(200):
        answers = rng.dirichlet(np.ones(5), 140)
        # Overconfident: the truth is drawn from flatter probabilities.
        truth = np.array([rng.choice(5, p=row) for row in apply_flatter(answers)])
        threshold = set_threshold(answers[:40], truth[:40])
        held = prediction_set(answers[40:], threshold)
        hold.append(held[np.arange(100), truth[40:]].mean())
        sizes.append(held.sum(axis=1).mean())
    assert SET_COVERAGE - 0.01 <= np.mean(hold) < SET_COVERAGE + 0.02
    assert np.mean(sizes) < 5


def apply_flatter(answers):
    powers = np.sqrt(answers)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_threshold_of_sets_is_the_quantile_of_a_finite_sample():
    answers, right = (
        two_classes([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]),
        np.zeros(9, int),
    )
    # Nine images allow no mistake, ten with nine tenths neither; eight promise nothing.
    assert set_threshold(answers, right) == 0.55
    assert set_threshold(answers[:8], right[:8]) == 0
    assert set_threshold(np.tile(answers, (3, 1)), np.tile(right, 3)) == 0.55
    assert set_threshold(answers, right, coverage=0.5) == 0.75


def test_sets_in_32_bits_hold_what_is_exactly_at_the_threshold():
    answers = two_classes(np.linspace(0.51, 0.99, 40)).astype(np.float32)
    threshold = set_threshold(answers, np.zeros(40, int))
    assert (prediction_set(answers, threshold)[:, 0]).all()
    assert threshold in answers[:, 0].astype(float)


def test_all_is_fitted_with_the_temperature_that_the_classifier_will_have():
    probabilities, truth = overconfident()
    found = calibrate(probabilities, truth)
    softened = apply_temperature(probabilities, found.temperature)
    assert found.temperature == fit_temperature(probabilities, truth)
    assert found.unsure_threshold == choose_unsure_threshold(softened, truth)
    assert found.set_threshold == set_threshold(softened, truth)


def balanced(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of a network for which each class is as frequent, of images where it is not."""
    rng = np.random.default_rng(seed)
    frequency = np.array([0.8, 0.15, 0.05])
    truth = rng.choice(3, n, p=frequency)
    evidence = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[truth]
    likelihood = np.exp(1.5 * evidence)
    return likelihood / likelihood.sum(axis=1, keepdims=True), truth, 1 / (3 * frequency)


def gap_of_the_rarest(probabilities: np.ndarray, truth: np.ndarray) -> float:
    rare = probabilities.argmax(axis=1) == 2
    return probabilities[rare, 2].mean() - (truth[rare] == 2).mean()


def test_rare_classes_that_counted_more_in_training_become_honest():
    probabilities, truth, weights = balanced(4000)
    later, true, _ = balanced(20_000, seed=1)
    alone = apply_temperature(later, fit_temperature(probabilities, truth))
    temperature, offsets = fit_class_offsets(probabilities, truth, weights)
    corrected = apply_temperature(later, temperature, offsets)
    assert gap_of_the_rarest(alone, true) > 0.2
    assert gap_of_the_rarest(corrected, true) == pytest.approx(0, abs=0.06)
    # These predictions follow the weights wholly, so that nothing but their inverse undoes them.
    np.testing.assert_allclose(offsets, -np.log(weights), atol=0.1)


def test_few_images_move_the_offsets_little_and_none_not_at_all():
    probabilities, truth, weights = balanced(4000)
    few, many = (fit_class_offsets(probabilities[:n], truth[:n], weights)[1] for n in (5, 4000))
    assert abs(few[2]) < 0.8 * abs(many[2])
    assert fit_class_offsets(probabilities[:0], truth[:0], weights) == (1.0, ())


def test_classes_that_counted_the_same_have_a_temperature_alone():
    probabilities, truth, _ = balanced(200)
    found = fit_class_offsets(probabilities, truth, np.ones(3))
    assert found == (fit_temperature(probabilities, truth), ())
    assert calibrate(probabilities, truth).class_offsets == ()


def test_a_network_that_ignored_the_weights_is_not_corrected_for_them():
    probabilities, truth, weights = balanced(4000)
    honest = apply_temperature(probabilities, 1.0, -np.log(weights))
    assert np.abs(fit_class_offsets(honest, truth, weights)[1]).max() < 0.1


def test_thresholds_are_chosen_with_the_offsets():
    probabilities, truth, weights = balanced(500)
    found = calibrate(probabilities, truth, weights)
    calibrated = apply_temperature(probabilities, found.temperature, found.class_offsets)
    assert len(found.class_offsets) == 3
    assert found.unsure_threshold == choose_unsure_threshold(calibrated, truth)
    assert found.set_threshold == set_threshold(calibrated, truth)


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
