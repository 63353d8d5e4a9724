"""How unlike an image is to everything known: its score, and what the threshold promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.arrays import dump_weights, parse_weights
from napari_cellclf.core.unlikeness import (
    LeftOut,
    Unlikeness,
    conformal_threshold,
    smallest_level,
)
from napari_cellclf.errors import BundleError, InputError

Features = np.ndarray[Any, Any]
WIDTH = 12


def grouped(rng: np.random.Generator, sizes: list[int]) -> tuple[Features, Features]:
    """Draw groups that differ more from each other than their images do."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), WIDTH))
    return centres[groups] + 0.3 * rng.normal(size=(len(groups), WIDTH)), groups


def drawn(rng: np.random.Generator, n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return rng.normal(size=(n, WIDTH)).astype(np.float32)


def fitted(n: int = 60, seed: int = 0, width: int = WIDTH) -> tuple[Unlikeness, Features]:
    features = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return Unlikeness.fit(features), features


def test_a_far_image_is_unlike_and_a_known_one_is_not() -> None:
    found, features = fitted()
    assert (found.scores(features) <= 0.05).all()
    far = np.full((1, WIDTH), 50, np.float32)
    assert found.scores(far)[0] > 1


def test_an_image_cannot_hide_outside_the_principal_components() -> None:
    rng = np.random.default_rng(0)
    features = np.zeros((300, 200), np.float32)
    features[:, :70] = rng.normal(size=(300, 70))
    found = Unlikeness.fit(features)
    strange = features[:1].copy()
    strange[0, 199] = 100
    assert found.scores(strange)[0] > 1


@pytest.mark.parametrize("sizes", [[1] * 40, [3] * 25, [1, 9] * 12])
def test_images_of_new_groups_are_flagged_at_most_as_often_as_the_level_says(
    sizes: list[int],
) -> None:
    level, flagged = 0.1, []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        # Which group is the new one is drawn, as if it were one of the known.
        features, groups = grouped(rng, list(rng.permutation(sizes)))
        new = groups == len(sizes) - 1
        found = Unlikeness.fit(features[~new], groups[~new], level=level)
        flagged.append((found.scores(features[new].astype(np.float32)) > 1).mean())
    mean, error = np.mean(flagged), np.std(flagged) / np.sqrt(len(flagged))
    assert mean <= level + 2.5 * error
    # Not by flagging nothing.
    assert mean > level / 5


def test_the_threshold_of_exchangeable_scores_keeps_its_level() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 8, 31)
    groups, flagged = np.repeat(np.arange(31), sizes), []
    for _ in range(2000):
        scores = rng.normal(size=31)[groups] + rng.normal(size=len(groups))
        new = groups == rng.integers(31)
        threshold = conformal_threshold(scores[~new], groups[~new], 0.1)
        flagged.append((scores[new] > threshold).mean())
    assert 0.06 < np.mean(flagged) <= 0.1 + 0.02


def test_too_few_groups_support_a_larger_level_only() -> None:
    rng = np.random.default_rng(0)
    features, groups = grouped(rng, [5] * 4)
    found = Unlikeness.fit(features, groups)
    assert (found.level, found.n_groups, found.n_images) == (0.2, 4, 20)
    assert smallest_level(19) == 0.05
    assert smallest_level(18) > 0.05
    scores = np.arange(20.0)
    # Nothing below the largest distance is sure enough.
    assert conformal_threshold(scores, groups, 0.2) == 19
    assert conformal_threshold(np.arange(19.0), np.arange(19), 0.05) == 18
    assert conformal_threshold(np.arange(39.0), np.arange(39), 0.05) == 37


def test_the_images_of_a_group_share_its_weight() -> None:
    groups = np.array([0] * 96 + [1, 2, 3])
    # The large group is one of four: its images do not decide alone.
    scores = np.array([1.0] * 96 + [2, 3, 4])
    assert conformal_threshold(scores, groups, 0.4) == 3


def test_only_left_out_images_choose_the_threshold() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, WIDTH))
    # Images that a network was fitted to lie closer together than new ones.
    features[:40] *= 0.01
    left_out = np.arange(80) >= 40
    assert Unlikeness.fit(features, left_out=left_out).threshold > 2 * (
        Unlikeness.fit(features, left_out=~left_out).threshold
    )
    with pytest.raises(InputError, match="no image was left out"):
        Unlikeness.fit(features, left_out=np.zeros(80, bool))
    with pytest.raises(InputError, match="no image was left out"):
        Unlikeness.fit(features, groups=["only"] * 80)


def test_networks_trained_without_some_groups_choose_the_threshold_of_another() -> None:
    rng = np.random.default_rng(0)
    parts = [
        LeftOut(scale * drawn(rng, 40), scale * drawn(rng, 30), groups)
        for scale, groups in ((1.0, np.arange(30)), (70.0, 30 + np.arange(30)))
    ]
    found = Unlikeness.fit_left_out(5 * rng.normal(size=(40, WIDTH)), parts)
    assert (found.level, found.n_groups, found.n_images) == (0.05, 60, 40)
    new = (5 * rng.normal(size=(500, WIDTH))).astype(np.float32)
    # Whatever the features of each network are measured in.
    assert (found.scores(new) > 1).mean() < 0.12
    assert (found.scores(3 * new) > 1).mean() > 0.8
    with pytest.raises(InputError, match="one part or more"):
        Unlikeness.fit_left_out(new, [])


@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_scores_do_not_depend_on_the_order_of_rows(seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)).astype(np.float32)
    groups = rng.integers(0, n, n)
    groups[:2] = [0, 1]
    order = rng.permutation(n)
    one = Unlikeness.fit(features, groups)
    other = Unlikeness.fit(features[order], groups[order])
    new = rng.normal(size=(9, width)).astype(np.float32)
    assert np.allclose(one.scores(new), other.scores(new), rtol=0.02, atol=0.02)
    assert np.array_equal(one.scores(new[::-1]), one.scores(new)[::-1])


@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_arrays_of_a_file_give_the_same_scores(seed: int, n: int, width: int) -> None:
    found, _ = fitted(n, seed, width)
    again = Unlikeness.from_arrays(parse_weights(dump_weights(found.to_arrays()), "it"))
    new = np.random.default_rng(seed).normal(size=(9, width)).astype(np.float32)
    assert np.array_equal(found.scores(new), again.scores(new))
    held = (found.level, found.n_groups, found.n_images, found.threshold)
    assert held == (again.level, again.n_groups, again.n_images, again.threshold)


def test_many_images_of_wide_features_take_less_than_a_megabyte() -> None:
    found, _ = fitted(3000, width=1280)
    assert found.n_images == 2000
    assert sum(array.nbytes for array in found.to_arrays().values()) < 1e6
    wide, _ = fitted(40, width=20_000)
    assert sum(array.nbytes for array in wide.to_arrays().values()) < 1e6


def test_dimensions_that_never_change_do_no_harm() -> None:
    features = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    features[:, 1:4] = [0, 7, -3]
    found = Unlikeness.fit(features)
    assert (found.scores(features) < 0.1).all()
    moved = features[:1].copy()
    moved[0, 2] = 100
    assert found.scores(moved)[0] > 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((5, 4)), "same features"),
        (np.full((5, 4), 3e5), "same features"),
        (np.ones((1, 4)), "same features"),
        (np.zeros((0, 4)), "not those of images"),
        (np.zeros((4, 0)), "not those of images"),
        (np.zeros(4), "not those of images"),
        (np.array([[0, np.nan], [1, 2]]), "NaN"),
        (np.array([[0, np.inf], [1, 2]]), "NaN or infinity"),
    ],
)
def test_features_that_tell_nothing_are_refused(features: Features, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Unlikeness.fit(features)
    assert "\n" not in str(error.value)


def test_scores_of_other_features_are_refused_and_nan_is_unlike() -> None:
    found, features = fitted()
    with pytest.raises(InputError, match="use the network that they are from"):
        found.scores(features[:, :3])
    broken = features[:2].copy()
    broken[0, 0] = np.nan
    scores = found.scores(broken)
    assert np.isnan(scores[0])
    assert scores[1] < 1
    with pytest.raises(InputError, match="one of each for every image"):
        Unlikeness.fit(features, groups=[1, 2])


HOSTILE: dict[str, tuple[str, Any]] = {
    "no known image": ("known", np.zeros((0, WIDTH), np.float16)),
    "another width": ("mean", np.zeros(3, np.float32)),
    "flat directions": ("directions", np.zeros(5, np.float16)),
    "residues of others": ("residues", np.zeros(7, np.float32)),
    "several thresholds": ("threshold", np.ones(4)),
    "no spread": ("spread", np.zeros(1)),
    "threshold below 0": ("threshold", -np.ones(1)),
    "level above 1": ("level", np.full(1, 1.5)),
    "huge": ("known", np.zeros((40_000, WIDTH), np.float16)),
    "more": ("more", np.zeros(1)),
    "text": ("spread", np.array(["1"])),
    "NaN": ("mean", np.full(WIDTH, np.nan, np.float32)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_arrays_that_do_not_fit_are_refused_in_one_line(case: str) -> None:
    found, _ = fitted()
    name, array = HOSTILE[case]
    with pytest.raises(InputError) as error:
        Unlikeness.from_arrays({**found.to_arrays(), name: array})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    if case == "NaN":
        with pytest.raises(BundleError, match="NaN"):
            parse_weights(dump_weights({**found.to_arrays(), name: array}), "it")
