"""Splits: no group on two sides, every image in one part, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.core.splitting import split_groups, split_random

FRACTIONS = (0.7, 0.15, 0.15)


@st.composite
def grouped(draw: st.DrawFn, most_groups: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of some images, numbered without gaps."""
    n_images = draw(st.integers(1, 60))
    numbers = st.integers(0, 2**16)
    n_classes, n_groups = draw(st.integers(1, 5)), draw(st.integers(1, most_groups))
    labels = draw(st.lists(numbers, min_size=n_images, max_size=n_images))
    groups = draw(st.lists(numbers, min_size=n_images, max_size=n_images))
    return (
        np.unique(np.array(labels) % n_classes, return_inverse=True)[1],
        np.unique(np.array(groups) % n_groups, return_inverse=True)[1],
    )


@given(grouped(), st.integers(0, 3))
def test_no_group_is_in_two_parts_and_every_image_in_one(
    images: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    labels, groups = images
    parts = split_groups(labels, groups, FRACTIONS, seed)
    assert parts.shape == labels.shape
    assert set(parts.tolist()) <= {0, 1, 2}
    assert all(len(set(parts[groups == group].tolist())) == 1 for group in np.unique(groups))


@given(grouped(), st.integers(0, 3))
def test_every_class_is_in_training(images: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, groups = images
    parts = split_groups(labels, groups, FRACTIONS, seed)
    assert set(labels[parts == 0].tolist()) == set(labels.tolist())


@given(grouped(), st.integers(0, 3))
def test_the_same_seed_gives_the_same_split(
    images: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    labels, groups = images
    one = split_groups(labels, groups, FRACTIONS, seed)
    assert np.array_equal(one, split_groups(labels, groups, FRACTIONS, seed))


@given(st.integers(3, 30), st.integers(1, 4), st.integers(0, 5))
def test_whole_groups_that_are_alike_fill_every_part(
    n_groups: int, n_classes: int, seed: int
) -> None:
    groups = np.repeat(np.arange(n_groups), n_classes)
    labels = np.tile(np.arange(n_classes), n_groups)
    sizes = np.bincount(split_groups(labels, groups, FRACTIONS, seed), minlength=3) / n_classes
    assert sizes.min() >= 1
    # As near to the fractions as whole groups can be, once there are enough of them.
    assert np.all(np.abs(sizes - n_groups * np.array(FRACTIONS))[1:] <= 1)


@settings(max_examples=30)
@given(grouped(most_groups=40), st.integers(2, 5))
def test_folds_are_of_about_the_same_size(images: tuple[np.ndarray, np.ndarray], k: int) -> None:
    labels, groups = images
    parts = split_groups(labels, groups, [1 / k] * k, 0, cover_first=False)
    largest = max(np.bincount(groups))
    sizes = np.bincount(parts, minlength=k)
    if len(labels) >= 10 * largest and len(set(labels.tolist())) == 1:
        assert sizes.max() - sizes.min() <= largest


def test_six_embryos_are_four_one_and_one() -> None:
    labels = np.tile(np.arange(17), 6)
    groups = np.repeat(np.arange(6), 17)
    tested = set()
    for seed in range(12):
        parts = split_groups(labels, groups, FRACTIONS, seed)
        assert np.bincount(parts).tolist() == [4 * 17, 17, 17]
        tested |= set(groups[parts == 2].tolist())
    # The seed chooses, and does not always choose the same.
    assert len(tested) > 3


def test_classes_that_are_alone_in_their_groups_are_in_every_part() -> None:
    # Twelve plates, three of each class, as where each class is an experiment of its own.
    groups = np.repeat(np.arange(12), 2)
    labels = groups // 3
    parts = split_groups(labels, groups, FRACTIONS, 0)
    assert [np.bincount(labels[parts == part]).tolist() for part in range(3)] == [[2] * 4] * 3


def test_two_groups_are_training_and_test() -> None:
    parts = split_groups(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), FRACTIONS, 0)
    assert sorted(set(parts.tolist())) == [0, 2]


def test_a_class_of_one_group_stays_in_training() -> None:
    labels, groups = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 3])
    for seed in range(5):
        assert split_groups(labels, groups, FRACTIONS, seed)[4] == 0


def test_groups_of_very_different_sizes_come_near_the_fractions() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), rng.integers(1, 100, 40))
    labels = rng.integers(0, 3, len(groups))
    parts = split_groups(labels, groups, FRACTIONS, 0)
    for label in range(3):
        shares = np.bincount(parts[labels == label], minlength=3) / (labels == label).sum()
        assert shares == pytest.approx(FRACTIONS, abs=0.03)


def test_thousands_of_groups_are_split_quickly_and_well() -> None:
    groups = np.repeat(np.arange(2000), 5)
    labels = np.random.default_rng(0).integers(0, 4, len(groups))
    shares = np.bincount(split_groups(labels, groups, FRACTIONS, 0)) / len(groups)
    assert shares == pytest.approx(FRACTIONS, abs=0.01)


def test_a_part_of_nothing_stays_empty() -> None:
    groups = np.repeat(np.arange(10), 2)
    parts = split_groups(np.tile([0, 1], 10), groups, (0.8, 0, 0.2), 0)
    assert np.bincount(parts, minlength=3).tolist() == [16, 0, 4]
    assert np.bincount(split_random(np.zeros(10, int), (0.8, 0, 0.2), 0)).tolist() == [8, 0, 2]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 3))
def test_random_splits_are_stratified(labels: list[int], seed: int) -> None:
    numbers = np.array(labels)
    parts = split_random(numbers, FRACTIONS, seed)
    assert np.array_equal(parts, split_random(numbers, FRACTIONS, seed))
    for label in np.unique(numbers):
        sizes = np.bincount(parts[numbers == label], minlength=3)
        assert sizes[0] >= 1
        if sizes.sum() >= 3:
            assert sizes.min() >= 1
        assert np.all(np.abs(sizes - sizes.sum() * np.array(FRACTIONS)) <= 2)


def test_of_two_images_one_is_tested() -> None:
    assert sorted(split_random(np.zeros(2, int), FRACTIONS, 0).tolist()) == [0, 2]
