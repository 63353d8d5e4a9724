from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.curves import precision_recall_curve, roc_curve

rows = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30)


def split(rows):
    positive, score = zip(*rows, strict=True)
    return np.array(positive), np.array(score) / 5


def test_the_curves_of_four_images():
    positive, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    roc = roc_curve(positive, score)
    assert roc.x.tolist() == [0, 0, 0.5, 0.5, 1]
    assert roc.y.tolist() == [0, 0.5, 0.5, 1, 1]
    precision = precision_recall_curve(positive, score)
    assert precision.x.tolist() == [0, 0.5, 0.5, 1]
    assert precision.y == pytest.approx([1, 1, 1 / 2, 2 / 3])
    # One half of recall at precision 1, the other at 2/3.
    assert precision.area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@given(rows)
def test_the_roc_area_is_the_chance_to_rank_a_pair_rightly(rows):
    positive, score = split(rows)
    curve = roc_curve(positive, score)
    if positive.all() or not positive.any():
        assert curve is None
        return
    pairs = score[positive][:, None] - score[~positive][None, :]
    assert curve.area == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@given(rows)
def test_average_precision_is_the_sum_over_thresholds(rows):
    positive, score = split(rows)
    curve = precision_recall_curve(positive, score)
    if not positive.any():
        assert curve is None
        return
    area, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        taken = score >= threshold
        recall = positive[taken].sum() / positive.sum()
        area += (recall - before) * positive[taken].mean()
        before = recall
    assert curve.area == pytest.approx(area)


@given(rows)
def test_the_order_of_images_does_not_matter(rows):
    positive, score = split(rows)
    there, back = roc_curve(positive, score), roc_curve(positive[::-1], score[::-1])
    assert (there is None) == (back is None)
    if there is not None:
        np.testing.assert_allclose(there.x, back.x)
        assert there.area == pytest.approx(back.area)


def test_a_perfect_and_a_useless_score():
    positive = np.array([True, True, False, False])
    assert roc_curve(positive, np.array([4.0, 3, 2, 1])).area == 1
    assert roc_curve(positive, np.zeros(4)).area == 0.5
    assert precision_recall_curve(positive, np.zeros(4)).area == 0.5
    assert precision_recall_curve(positive, np.array([4.0, 3, 2, 1])).x[-1] == 1


def test_a_thinned_curve_keeps_its_ends_and_its_area():
    rng = np.random.default_rng(0)
    curve = roc_curve(rng.random(500) > 0.5, rng.random(500))
    thin = curve.thinned(20)
    assert len(thin.x) <= 20
    assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1]) == (0, 0, 1, 1)
    assert thin.area == curve.area
    assert curve.thinned(10_000) is curve
