from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from napari_cellclf.core.metrics import (
    METRICS,
    Outcomes,
    class_scores,
    confusion_matrix,
    top_k,
    truth_ranks,
)
from napari_cellclf.errors import InputError

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def split(rows):
    truth, answers = np.array(rows).T
    return truth, answers


def outcomes_of(truth, answers, n_classes=4):
    """Make predictions that are sure of one class each."""
    return Outcomes(np.eye(n_classes)[np.asarray(answers, int)], np.asarray(truth, int))


def value(name, truth, answers):
    return METRICS.get(name).compute(outcomes_of(truth, answers))


def top_k_accuracy(truth, probabilities, k):
    return top_k(k).compute(Outcomes(probabilities, truth))


@given(pairs)
def test_the_confusion_matrix_counts_every_image_once(rows):
    truth, answers = split(rows)
    counts = confusion_matrix(truth, answers, 4)
    assert counts.sum() == len(rows)
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(truth, minlength=4))
    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(answers, minlength=4))


@given(pairs)
def test_the_metrics_agree_with_the_confusion_matrix(rows):
    truth, answers = split(rows)
    counts = confusion_matrix(truth, answers, 4)
    assert value("accuracy", truth, answers) == pytest.approx(np.trace(counts) / counts.sum())
    present = counts.sum(axis=1) > 0
    recalls = np.diag(counts)[present] / counts.sum(axis=1)[present]
    balanced = value("balanced_accuracy", truth, answers)
    assert balanced == pytest.approx(recalls.mean())


def test_rows_are_the_truth():
    assert confusion_matrix(np.array([0]), np.array([2]), 3)[0, 2] == 1


def test_always_answering_the_frequent_class_is_not_balanced():
    truth = np.array([0] * 9 + [1])
    answers = np.zeros(10, int)
    assert value("accuracy", truth, answers) == pytest.approx(0.9)
    assert value("balanced_accuracy", truth, answers) == pytest.approx(0.5)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_top_k_grows_with_k_up_to_one(n, seed):
    random = np.random.default_rng(seed)
    probabilities, truth = random.dirichlet(np.ones(5), n), random.integers(0, 5, n)
    parts = [top_k_accuracy(truth, probabilities, k) for k in range(1, 7)]
    assert parts == sorted(parts)
    assert parts[0] == pytest.approx(np.mean(truth == probabilities.argmax(axis=1)))
    assert parts[4:] == [1, 1]


def test_among_equals_the_first_class_wins():
    flat = np.full((1, 4), 0.25)
    assert [top_k_accuracy(np.array([c]), flat, 2) for c in range(4)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("truth", "answers"), [([], []), ([0, 1], [0])])
def test_images_and_predictions_must_be_as_many(truth, answers):
    with pytest.raises(InputError, match="give one prediction for each"):
        outcomes_of(truth, answers)
    with pytest.raises(InputError, match="give one prediction for each"):
        class_scores(np.array(truth, int), np.array(answers, int), 4)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_numbers_that_are_no_class_are_refused(wrong):
    with pytest.raises(InputError, match=rf"\[{wrong}\] are not among the 3 classes"):
        confusion_matrix(np.array([0, wrong]), np.array([0, 0]), 3)
    with pytest.raises(InputError, match=rf"\[{wrong}\] are not among the 3 classes"):
        confusion_matrix(np.array([0, 0]), np.array([0, wrong]), 3)
    with pytest.raises(InputError, match="not among"):
        top_k_accuracy(np.array([wrong]), np.full((1, 3), 1 / 3), 1)


def test_k_must_be_at_least_one():
    with pytest.raises(InputError, match="k is 0"):
        top_k_accuracy(np.array([0]), np.ones((1, 1)), 0)


def test_scores_of_classes_worked_out_by_hand():
    scores = class_scores(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), 4)
    assert scores.precision[:2] == pytest.approx([2 / 3, 1 / 2])
    assert scores.recall[:2] == pytest.approx([2 / 3, 1 / 2])
    assert scores.f1[:2] == pytest.approx([2 / 3, 1 / 2])
    assert np.isnan([scores.precision[2], scores.recall[2], scores.f1[2]]).all()
    assert scores.macro("f1") == pytest.approx((2 / 3 + 1 / 2) / 2)


@given(pairs)
def test_scores_agree_with_the_confusion_matrix(rows):
    truth, answers = split(rows)
    counts, scores = confusion_matrix(truth, answers, 4), class_scores(truth, answers, 4)
    for c in range(4):
        found, support, answered = counts[c, c], counts[c].sum(), counts[:, c].sum()
        if support:
            assert scores.recall[c] == found / support
            assert scores.precision[c] == (found / answered if answered else 0)
            assert scores.f1[c] == pytest.approx(2 * found / (support + answered))


@given(pairs, st.integers(0, 99))
def test_weighted_scores_are_those_of_repeated_images(rows, seed):
    truth, answers = split(rows)
    times = np.random.default_rng(seed).integers(0, 3, len(rows))
    if not times.any():
        return
    weighted = class_scores(truth, answers, 4, times.astype(float))
    repeated = class_scores(np.repeat(truth, times), np.repeat(answers, times), 4)
    np.testing.assert_allclose(weighted.f1, repeated.f1)
    np.testing.assert_allclose(weighted.precision, repeated.precision)


def test_ranks_of_the_truth():
    flat = np.full((1, 3), 1 / 3)
    assert [truth_ranks(np.array([c]), flat)[0] for c in range(3)] == [0, 1, 2]


# What scikit-learn calls each of ours that it has, too. It takes labels that it does not see for
# absent; so do the means over classes here.
SAME = {
    "accuracy": lambda o, labels: sklearn.accuracy_score(
        o.truth, o.predicted, sample_weight=o.weights
    ),
    "balanced_accuracy": lambda o, labels: sklearn.recall_score(
        o.truth, o.predicted, labels=labels, average="macro", sample_weight=o.weights
    ),
    "macro_precision": lambda o, labels: sklearn.precision_score(
        o.truth, o.predicted, labels=labels, average="macro", sample_weight=o.weights,
        zero_division=0,
    ),
    "macro_f1": lambda o, labels: sklearn.f1_score(
        o.truth, o.predicted, labels=labels, average="macro", sample_weight=o.weights
    ),
    "loss": lambda o, labels: sklearn.log_loss(
        o.truth, o.probabilities, labels=range(o.n_classes), sample_weight=o.weights
    ),
}  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_metrics_are_those_of_scikit_learn(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    table, truth = rng.dirichlet(np.ones(n_classes), n), rng.integers(0, n_classes, n)
    weights = rng.integers(0, 3, n).astype(float)
    weights[0] = 1.0
    outcomes = Outcomes(table, truth).weighted(weights)
    present = np.unique(truth[weights > 0])
    for name, same in SAME.items():
        assert METRICS.get(name).compute(outcomes) == pytest.approx(same(outcomes, present)), name
    counts = sklearn.confusion_matrix(
        truth, outcomes.predicted, labels=range(n_classes), sample_weight=weights
    )
    np.testing.assert_allclose(outcomes.confusion, counts)
    for k in range(1, n_classes):
        assert top_k(k).compute(outcomes) == pytest.approx(
            sklearn.top_k_accuracy_score(
                truth, table, k=k, labels=range(n_classes), sample_weight=weights
            )
            if n_classes > 2
            else np.average(truth == outcomes.predicted, weights=weights)
        )


def test_the_loss_of_a_sure_mistake_is_finite():
    assert value("loss", [0, 1], [1, 1]) == pytest.approx(-np.log(1e-7) / 2)
