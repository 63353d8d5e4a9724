"""Labels that held-out predictions speak against."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.label_errors import label_doubts
from napari_cellclf.core.suggesting import Suggester
from napari_cellclf.errors import InputError


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 80))
def test_doubts_are_bounded_and_follow_their_rows(seed: int, classes: int, count: int) -> None:
    random = np.random.default_rng(seed)
    predicted = random.dirichlet(np.full(classes, 0.5), count)
    labels = random.integers(0, classes, count)
    doubts = label_doubts(predicted, labels)
    assert ((doubts >= 0) & (doubts <= 1)).all()
    # Where the label is the most probable class, nothing speaks against it.
    assert not doubts[predicted.argmax(axis=1) == labels].any()
    order = random.permutation(count)
    np.testing.assert_allclose(label_doubts(predicted[order], labels[order]), doubts[order])
    renamed = random.permutation(classes)
    moved = np.empty_like(predicted)
    moved[:, renamed] = predicted
    np.testing.assert_allclose(label_doubts(moved, renamed[labels]), doubts)


def test_what_was_not_predicted_is_not_doubted() -> None:
    predicted = np.array([[0, 0], [1, 0], [0.9, 0.1], [0.1, 0.9]], np.float32)
    assert label_doubts(predicted, np.array([1, 1, 0, 1])).tolist() == [0, 1, 0, 0]
    assert label_doubts(np.zeros((0, 3)), np.zeros(0, int)).shape == (0,)


def test_an_unsure_prediction_of_another_class_is_no_doubt() -> None:
    predicted = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.55, 0.45]])
    assert not label_doubts(predicted, np.array([0, 0, 1, 1])).any()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="one row of probabilities for each label"):
        label_doubts(np.ones((3, 2)), np.zeros(2, int))


@pytest.mark.parametrize("grouped", [False, True])
def test_wrong_labels_are_found_among_right_ones(grouped: bool) -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 4, 400)
    features = (random.normal(size=(400, 24)) + 3 * np.eye(4, 24)[truth]).astype(np.float32)
    labels = dict(enumerate(truth[:200].tolist()))
    wrong = set(random.choice(200, 12, replace=False).tolist())
    labels |= {row: (labels[row] + 1) % 4 for row in wrong}
    groups = [f"plate {row % 8}" for row in range(400)] if grouped else None
    doubts = Suggester(features, groups).check(labels, 4).doubts
    assert doubts.shape == (400,)
    assert np.isnan(doubts[200:]).all()
    found = {int(row) for row in np.argsort(-np.nan_to_num(doubts))[:12]}
    assert len(found & wrong) >= 10
    assert np.count_nonzero(np.nan_to_num(doubts)) < 40
