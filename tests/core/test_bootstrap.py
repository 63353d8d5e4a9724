from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cellclf.core.bootstrap import bootstrap, lowest_rate_without_failure, units_of


def mean_of(values):
    def statistic(weights):
        return {"mean": float(np.average(values, weights=weights))}

    return statistic


def test_units_are_groups_where_there_are_any():
    units = units_of(["p2", "p1", "p2", "p1"], 4)
    assert (units.kind, units.of_row, units.count) == ("group", (0, 1, 0, 1), 2)
    assert units_of(None, 3).kind == units_of(["", "", ""], 3).kind == "image"


def test_images_without_a_group_among_others_stand_alone():
    assert units_of(["", "a", "", "a"], 4).of_row == (0, 1, 2, 1)


def test_the_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap(mean_of(values), units_of(None, 400), replicates=2000)["mean"]
    error = values.std() / math.sqrt(400)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.015)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.015)


def test_an_interval_holds_95_percent_of_the_replicates():
    values = np.random.default_rng(4).normal(size=50)
    drawn = np.random.default_rng(0).integers(0, 50, (1000, 50))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    interval = bootstrap(mean_of(values), units_of(None, 50))["mean"]
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_groups_of_like_images_widen_the_interval():
    rng = np.random.default_rng(1)
    right = np.repeat(rng.random(20) > 0.3, 50).astype(float)
    groups = [str(i // 50) for i in range(1000)]
    alone = bootstrap(mean_of(right), units_of(None, 1000))["mean"]
    together = bootstrap(mean_of(right), units_of(groups, 1000))["mean"]
    # 20 observations instead of 1000: the square root of 50 times as wide.
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert 5 < ratio < 9


def test_the_same_seed_gives_the_same_interval():
    statistic, units = mean_of(np.arange(30.0)), units_of(None, 30)
    assert bootstrap(statistic, units, seed=3) == bootstrap(statistic, units, seed=3)
    assert bootstrap(statistic, units, seed=3) != bootstrap(statistic, units, seed=4)


def test_two_groups_give_no_interval_and_say_so():
    units = units_of(["a", "b"] * 5, 10)
    assert bootstrap(mean_of(np.arange(10.0)), units) == {}
    assert "2 groups, too few" in units.note
    assert "no intervals" in units.note


@pytest.mark.parametrize(
    ("groups", "words", "absent"),
    [
        (["a", "b", "c"], "3 groups resampled with replacement, which are few", "wider"),
        ([str(i) for i in range(12)], "12 groups resampled", "few"),
        (None, "no groups are known", "few"),
    ],
)
def test_the_note_says_what_was_drawn(groups, words, absent):
    note = units_of(groups, 12 if groups is None else len(groups)).note
    assert words in note
    assert absent not in note


def test_what_does_not_vary_or_is_rarely_defined_has_no_interval():
    def statistic(weights):
        return {"same": 1.0, "rare": 1.0 if weights[0] > 2 else float("nan"), "fine": weights[0]}

    assert set(bootstrap(statistic, units_of(None, 9))) == {"fine"}


@pytest.mark.parametrize("n", [1, 3, 24, 1000])
def test_the_lowest_rate_makes_no_failure_just_unlikely(n):
    assert lowest_rate_without_failure(n) ** n == pytest.approx(0.025)


def test_no_trial_tells_nothing():
    assert lowest_rate_without_failure(0) == 0
