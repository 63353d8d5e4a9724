"""Weights and orders that even classes out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.sampling import Balance, class_weights, epoch_order
from napari_cellclf.errors import DatasetError

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
BALANCES: list[Balance] = ["none", "oversample", "equal-numbers"]


@given(LABELS)
def test_weights_even_classes_out_and_average_one(labels: np.ndarray) -> None:
    weights = class_weights(labels, 6)
    assert weights.dtype == np.float32
    assert weights[labels].mean() == pytest.approx(1, rel=1e-5)
    totals = np.bincount(labels, weights[labels].astype(float), minlength=6)
    present = totals > 0
    assert totals[present] == pytest.approx(totals[present][0], rel=1e-5)
    # Class 5 has no image.
    assert weights[5] == 1


@given(LABELS, st.sampled_from(BALANCES), st.integers(0, 3), st.integers(0, 3))
def test_an_order_depends_on_seed_and_epoch_alone(
    labels: np.ndarray, balance: Balance, seed: int, epoch: int
) -> None:
    one = epoch_order(labels, balance=balance, seed=seed, epoch=epoch)
    again = epoch_order(labels, balance=balance, seed=seed, epoch=epoch)
    assert np.array_equal(one, again)


@given(LABELS, st.integers(0, 3))
def test_every_image_once(labels: np.ndarray, epoch: int) -> None:
    assert sorted(epoch_order(labels, epoch=epoch)) == list(range(len(labels)))


@given(LABELS)
def test_oversampling_shows_every_image_and_classes_alike(labels: np.ndarray) -> None:
    order = epoch_order(labels, balance="oversample")
    shown = np.bincount(labels[order])
    assert set(shown[shown > 0]) == {np.bincount(labels).max()}
    assert set(order) == set(range(len(labels)))
    times = np.bincount(order)
    for label in np.unique(labels):
        assert np.ptp(times[labels == label]) <= 1


@given(LABELS)
def test_equal_numbers_shows_no_image_twice(labels: np.ndarray) -> None:
    order = epoch_order(labels, balance="equal-numbers")
    counts = np.bincount(labels)
    shown = np.bincount(labels[order])
    assert set(shown[shown > 0]) == {counts[counts > 0].min()}
    assert len(set(order)) == len(order)


def test_epochs_differ() -> None:
    labels = np.repeat([0, 1], [50, 10])
    for balance in BALANCES:
        one, other = (epoch_order(labels, balance=balance, epoch=epoch) for epoch in (0, 1))
        assert not np.array_equal(one, other)
    shown = {
        row
        for epoch in range(20)
        for row in epoch_order(labels, balance="equal-numbers", epoch=epoch)
    }
    assert len(shown) > 40


def test_an_unknown_balance_is_refused() -> None:
    with pytest.raises(DatasetError, match="'equal'; choose one of none, oversample"):
        epoch_order(np.zeros(3, int), balance="equal")  # type: ignore[arg-type]


def test_no_image_is_no_order() -> None:
    assert len(epoch_order(np.zeros(0, int), balance="oversample")) == 0
