from __future__ import annotations

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from napari_cellclf.core.suggesting import (
    FEWEST_FOR_ESTIMATE,
    RANDOM_EVERY,
    Suggester,
    Suggestions,
    accuracy_interval,
)
from napari_cellclf.errors import CancelledError, InputError


def clustered(seed, *, rows=400, classes=4, width=24, apart=3.0, groups=0, shift=0.0):
    """Features with one centre a class and, where there are groups, an offset for each."""
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=rows)
    member = random.integers(max(groups, 1), size=rows)
    centres = random.normal(size=(classes, width)) * apart / np.sqrt(2)
    offsets = random.normal(size=(max(groups, 1), width)) * shift
    features = centres[truth] + offsets[member] + random.normal(size=(rows, width))
    return features.astype(np.float32), truth, member


def label_as_offered(suggester, truth, count):
    """Label what is offered first, as a user does; returns the labels and those drawn at random."""
    labels, drawn = {}, []
    n_classes = truth.max() + 1
    while len(labels) < count:
        found = suggester.refit(labels, n_classes, drawn)
        row = int(found.order[0])
        if found.next_is_random:
            drawn.append(row)
        labels[row] = int(truth[row])
    return labels, drawn


def accuracy_on_the_rest(suggester, labels, truth):
    found = suggester.refit(labels, truth.max() + 1)
    return (found.probabilities[found.order].argmax(axis=1) == truth[found.order]).mean()


def test_a_few_labels_tell_the_classes_of_the_rest():
    features, truth, _ = clustered(0, apart=2.0)
    suggester = Suggester(features)
    labels, _ = label_as_offered(suggester, truth, 16)
    found = suggester.refit(labels, 4)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert accuracy_on_the_rest(suggester, labels, truth) > 0.9


def test_every_row_without_a_label_is_offered_once():
    features, truth, _ = clustered(1, rows=120)
    suggester = Suggester(features)
    for count in (0, 1, 7, 40, 119, 120):
        labels = {row: int(truth[row]) for row in range(count)}
        found = suggester.refit(labels, 4)
        assert sorted(found.order) == list(range(count, 120))
        assert len(found.is_random) == len(found.order)


def test_nothing_is_suggested_until_two_classes_have_labels():
    features, truth, _ = clustered(2, rows=60)
    suggester = Suggester(features)
    one = int(np.flatnonzero(truth == 1)[0])
    assert np.isnan(suggester.refit({}, 0).probabilities).all()
    assert np.isnan(suggester.refit({one: 1}, 4).probabilities).all()
    other = int(np.flatnonzero(truth == 2)[0])
    found = suggester.refit({one: 1, other: 2}, 4)
    # A class without a label is not predicted.
    assert (found.probabilities[:, [0, 3]] == 0).all()
    with pytest.raises(InputError, match="at least two classes"):
        suggester.head({one: 1}, 4)


def test_the_first_rows_are_of_different_clusters():
    features, truth, _ = clustered(3, classes=8, apart=6.0)
    found = Suggester(features).refit({}, 8)
    chosen = found.order[~found.is_random][:8]
    assert len(set(truth[chosen])) == 8


def test_the_next_rows_are_unsure_and_do_not_look_alike():
    random = np.random.default_rng(4)
    features, truth, _ = clustered(4, classes=2, apart=1.5)
    # Twenty rows that can hardly be told apart, exactly between the classes.
    middle = features[truth == 0].mean(axis=0) / 2 + features[truth == 1].mean(axis=0) / 2
    features[:20] = middle + 1e-3 * random.normal(size=(20, features.shape[1]))
    rows = np.concatenate([np.flatnonzero(truth == one)[-20:] for one in (0, 1)])
    labels = {int(row): int(truth[row]) for row in rows}
    found = Suggester(features).refit(labels, 2, random_rows=list(labels)[:8])
    best = np.sort(found.probabilities, axis=1)
    margin = best[:, -1] - best[:, -2]
    first = found.order[~found.is_random][:6]
    assert np.median(margin[first]) < np.quantile(margin[found.order], 0.25)
    assert np.count_nonzero(first < 20) <= 2


def test_every_fifth_row_is_drawn_at_random_whatever_the_labels_are():
    features, truth, _ = clustered(5)
    one, other = Suggester(features, seed=7), Suggester(features, seed=7)
    labels, drawn = label_as_offered(one, truth, 60)
    assert [list(labels).index(row) + 1 for row in drawn] == list(range(RANDOM_EVERY, 61, 5))
    relabelled, again = label_as_offered(other, (truth + 1) % 4, 60)
    # The same draws, but for those that had been chosen before.
    assert len(set(drawn) ^ set(again)) <= 4
    assert relabelled != labels


def test_the_same_seed_gives_the_same_and_another_one_other_draws():
    features, truth, _ = clustered(6)
    runs = [label_as_offered(Suggester(features, seed=seed), truth, 50) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0][1] != runs[2][1]


def test_the_order_of_labels_changes_nothing():
    features, truth, _ = clustered(7)
    suggester = Suggester(features)
    labels = {row: int(truth[row]) for row in range(40)}
    one = suggester.refit(labels, 4)
    other = suggester.refit(dict(reversed(labels.items())), 4)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.order, other.order)


def test_skipped_rows_come_last_and_are_no_draws():
    features, truth, _ = clustered(8, rows=100)
    suggester = Suggester(features)
    labels = {row: int(truth[row]) for row in range(4)}
    first = suggester.refit(labels, 4)
    assert first.next_is_random
    skipped = [int(first.order[0]), int(first.order[1])]
    then = suggester.refit(labels, 4, skipped=skipped)
    assert set(then.order[-2:]) == set(skipped)
    assert not then.is_random[-2:].any()
    assert then.next_is_random
    assert sorted(then.order) == sorted(first.order)


def test_rows_without_features_are_never_offered():
    features, truth, _ = clustered(9, rows=90)
    features[::9] = np.nan
    suggester = Suggester(features)
    labels = {row: int(truth[row]) for row in range(30)}
    found = suggester.refit(labels, 4)
    assert np.isnan(found.probabilities[::9]).all()
    assert np.isfinite(found.probabilities[1::9]).all()
    assert not set(found.order) & set(range(0, 90, 9))


def test_the_head_predicts_from_features_what_was_suggested():
    features, truth, _ = clustered(10, classes=5, width=300)
    suggester = Suggester(features)
    labels = {row: int(truth[row]) for row in range(60) if truth[row] != 2}
    head = suggester.head(labels, 5)
    assert head.classes == (0, 1, 3, 4)
    assert head.kernel.shape == (300, 4)
    suggested = suggester.refit(labels, 5).probabilities[:, head.classes]
    np.testing.assert_allclose(head(features), suggested, atol=1e-3)


def test_what_was_learnt_from_a_group_predicts_nothing_of_it():
    # Each group is a lump of its own: whoever saw it predicts it, and nobody else can.
    random = np.random.default_rng(11)
    groups = np.repeat(np.arange(20), 10)
    truth = (np.arange(20) % 2)[groups]
    features = random.normal(size=(20, 40))[groups] * 4 + random.normal(size=(200, 40)) * 0.1
    labels = dict(enumerate(truth.tolist()))
    features = features.astype(np.float32)
    alone = Suggester(features).estimate(labels, 2, list(labels))
    grouped = Suggester(features, groups.astype(str)).estimate(labels, 2, list(labels))
    assert alone.accuracy == 1
    assert alone.n_groups == 0
    assert grouped.accuracy < 0.8
    assert grouped.n_groups == 20
    assert grouped.high - grouped.low > 0.2


def test_one_group_alone_is_no_group():
    features, truth, _ = clustered(12)
    labels = {row: int(truth[row]) for row in range(60)}
    alone = Suggester(features).estimate(labels, 4, range(60))
    assert Suggester(features, ["plate 1"] * 400).estimate(labels, 4, range(60)) == alone
    assert Suggester(features, [""] * 400).estimate(labels, 4, range(60)).n_images == 60


def test_there_is_no_estimate_from_few_draws_or_from_chosen_rows():
    features, truth, _ = clustered(13)
    suggester = Suggester(features)
    labels = {row: int(truth[row]) for row in range(100)}
    assert suggester.estimate(labels, 4, []) is None
    assert suggester.estimate(labels, 4, range(FEWEST_FOR_ESTIMATE - 1)) is None
    # Rows that have lost their label since count no more.
    assert suggester.estimate(labels, 4, range(95, 195)) is None
    found = suggester.estimate(labels, 4, range(FEWEST_FOR_ESTIMATE))
    assert found.n_images == FEWEST_FOR_ESTIMATE
    assert 0 <= found.low <= found.accuracy <= found.high <= 1


def test_the_interval_holds_the_true_accuracy_although_labels_were_chosen():
    inside = 0
    for seed in range(20):
        features, truth, _ = clustered(seed, rows=300, apart=1.5)
        suggester = Suggester(features, seed=seed)
        labels, drawn = label_as_offered(suggester, truth, 100)
        found = suggester.estimate(labels, 4, drawn)
        assert found.n_images == 20
        inside += found.low <= accuracy_on_the_rest(suggester, labels, truth) <= found.high
    assert inside >= 18


def test_the_interval_holds_the_accuracy_in_new_groups():
    inside = 0
    for seed in range(20):
        features, truth, groups = clustered(seed, rows=800, apart=2.0, groups=40, shift=0.7)
        known = groups < 12
        suggester = Suggester(features[known], groups[known].astype(str), seed=seed)
        labels, drawn = label_as_offered(suggester, truth[known], 120)
        found = suggester.estimate(labels, 4, drawn)
        head = suggester.head(labels, 4)
        new = head(features[~known]).argmax(axis=1)
        accuracy = (np.array(head.classes)[new] == truth[~known]).mean()
        inside += found.low <= accuracy <= found.high
    assert inside >= 18


def test_intervals_of_alike_rows_are_wider():
    right = np.repeat([True, True, False, True, True], 8)
    alone = accuracy_interval(right)
    alike = accuracy_interval(right, np.repeat(np.arange(5), 8))
    assert alone.accuracy == alike.accuracy == 0.8
    assert alike.high - alike.low > 2 * (alone.high - alone.low)
    assert accuracy_interval(right, np.zeros(40, int)) is None


def test_perfect_predictions_do_not_prove_perfection():
    assert accuracy_interval(np.ones(20, bool)).low == pytest.approx(0.832, abs=1e-3)
    few = accuracy_interval(np.ones(20, bool), np.repeat(np.arange(4), 5))
    assert few.low < 0.7
    assert few.high == 1


def test_a_key_does_not_wait_for_a_refit():
    features, truth, _ = clustered(14, rows=5000, classes=10, width=1280, apart=1.0)
    suggester = Suggester(features)
    for count in (20, 1000):
        labels = {row: int(truth[row]) for row in range(count)}
        times = []
        for _ in range(5):
            # Of one thread, since other processes may be busy.
            with threadpool_limits(1):
                began = time.thread_time()
                suggester.refit(labels, 10)
                times.append(time.thread_time() - began)
        # Measured 0.05 s by the clock, on two cores.
        assert min(times) < 0.5


def test_an_estimate_ends_when_it_is_asked_to():
    features, truth, _ = clustered(15)
    labels = {row: int(truth[row]) for row in range(60)}
    with pytest.raises(CancelledError):
        Suggester(features).estimate(labels, 4, range(60), should_stop=lambda: True)


@pytest.mark.parametrize("features", [np.zeros((0, 4), np.float32), np.zeros(4, np.float32)])
def test_what_are_no_features_is_refused(features):
    with pytest.raises(InputError, match="give"):
        Suggester(features)


def test_groups_and_classes_must_fit():
    features, _, _ = clustered(16, rows=20)
    with pytest.raises(InputError, match="19 groups were given for 20 rows"):
        Suggester(features, ["a"] * 19)
    with pytest.raises(InputError, match="no class number 2 among 2 classes"):
        Suggester(features).refit({0: 0, 1: 2}, 2)


@pytest.mark.parametrize("rows", [1, 2, 3, 15])
def test_very_few_rows_are_offered_too(rows):
    features = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    suggester = Suggester(features)
    assert sorted(suggester.refit({}, 0).order) == list(range(rows))
    if rows > 1:
        assert np.isfinite(suggester.refit({0: 0, 1: 1}, 2).probabilities).all()


def test_rows_that_are_all_alike_do_no_harm():
    suggester = Suggester(np.ones((50, 8), np.float32))
    found = suggester.refit({0: 0, 1: 1}, 2)
    assert np.isfinite(found.probabilities).all()
    assert len(found.order) == 48


def test_softened_probabilities_mean_what_they_say():
    features, truth, _ = clustered(17, rows=1500, classes=6, width=64, apart=0.4)
    suggester = Suggester(features)
    labels, drawn = label_as_offered(suggester, truth, 60)
    found = suggester.refit(labels, 6, drawn)
    softened = found.softened(suggester.check(labels, 6).temperature)
    rest = [row for row in range(len(truth)) if row not in labels]
    right = found.probabilities[rest].argmax(axis=1) == truth[rest]
    sure, soft = (one.probabilities[rest].max(axis=1).mean() for one in (found, softened))
    assert sure - right.mean() > 0.2
    assert abs(soft - right.mean()) < 0.1
    # Neither the classes nor the order change.
    assert (softened.probabilities.argmax(axis=1) == found.probabilities.argmax(axis=1)).all()
    assert (softened.order == found.order).all()


def test_nothing_is_softened_by_labels_of_one_class():
    features, _, _ = clustered(18, rows=30)
    assert Suggester(features).check({0: 1, 1: 1}, 2).temperature == 1
    # Before the first label, and where only rows have one that cannot be used.
    assert Suggester(features).check({}, 0).temperature == 1
    assert Suggester(features).refit({}, 0).softened(1).probabilities.shape == (30, 0)
    features[0] = np.nan
    assert Suggester(features).check({0: 1}, 2).temperature == 1


def test_without_a_class_there_is_nothing_to_soften():
    found = Suggestions(np.zeros((3, 0), np.float32), np.arange(3), np.zeros(3, bool))
    assert found.softened(2.0).probabilities.shape == (3, 0)
