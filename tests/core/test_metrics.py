from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.metrics import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    top_k_accuracy,
    truth_ranks,
)
from napari_cellclf.errors import InputError

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def split(rows):
    truth, answers = np.array(rows).T
    return truth, answers


@given(pairs)
def test_the_confusion_matrix_counts_every_image_once(rows):
    truth, answers = split(rows)
    counts = confusion_matrix(truth, answers, 4)
    assert counts.sum() == len(rows)
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(truth, minlength=4))
    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(answers, minlength=4))


@given(pairs)
def test_the_figures_agree_with_the_confusion_matrix(rows):
    truth, answers = split(rows)
    counts = confusion_matrix(truth, answers, 4)
    assert accuracy(truth, answers) == pytest.approx(np.trace(counts) / counts.sum())
    present = counts.sum(axis=1) > 0
    recalls = np.diag(counts)[present] / counts.sum(axis=1)[present]
    assert balanced_accuracy(truth, answers) == pytest.approx(recalls.mean())


def test_rows_are_the_truth():
    assert confusion_matrix(np.array([0]), np.array([2]), 3)[0, 2] == 1


def test_always_answering_the_frequent_class_is_not_balanced():
    truth = np.array([0] * 9 + [1])
    answers = np.zeros(10, int)
    assert accuracy(truth, answers) == pytest.approx(0.9)
    assert balanced_accuracy(truth, answers) == pytest.approx(0.5)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_top_k_grows_with_k_up_to_one(n, seed):
    random = np.random.default_rng(seed)
    probabilities, truth = random.dirichlet(np.ones(5), n), random.integers(0, 5, n)
    parts = [top_k_accuracy(truth, probabilities, k) for k in range(1, 7)]
    assert parts == sorted(parts)
    assert parts[0] == pytest.approx(accuracy(truth, probabilities.argmax(axis=1)))
    assert parts[4:] == [1, 1]


def test_among_equals_the_first_class_wins():
    flat = np.full((1, 4), 0.25)
    assert [top_k_accuracy(np.array([c]), flat, 2) for c in range(4)] == [1, 1, 0, 0]


@pytest.mark.parametrize("figure", [accuracy, balanced_accuracy])
@pytest.mark.parametrize(("truth", "answers"), [([], []), ([0, 1], [0])])
def test_images_and_answers_must_be_as_many(figure, truth, answers):
    with pytest.raises(InputError, match="give one answer for each"):
        figure(np.array(truth, int), np.array(answers, int))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_numbers_that_are_no_class_are_refused(wrong):
    with pytest.raises(InputError, match=rf"\[{wrong}\] are not among the 3 classes"):
        confusion_matrix(np.array([0, wrong]), np.array([0, 0]), 3)
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
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)


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
