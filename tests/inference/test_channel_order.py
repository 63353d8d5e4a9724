"""Images with two channels swapped are recognised, at no cost for images that are like training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.inference.channel_order import ChannelOrders
from napari_cellclf.inference.engine import Computed, ProbabilitiesOnly

NAMES = ("w1", "w2", "w3", "w4")
Pixels = np.ndarray[Any, np.dtype[np.float32]]


class MeanEngine(ProbabilitiesOnly):
    """Its features are the means of the channels."""

    device = "here"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Pixels) -> Pixels:
        return np.full((len(batch), 2), 0.5, np.float32)

    def compute(
        self, batch: Pixels, *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        self.calls += 1
        return Computed(self(batch), batch.mean(axis=(1, 2)))


def draw(seed: int) -> Pixels:
    random = np.random.default_rng(seed)
    return random.normal(np.arange(0, 12, 3), size=(8, 8, 4)).astype(np.float32)


@pytest.fixture
def known() -> Unlikeness:
    return Unlikeness.fit(np.stack([draw(seed).mean(axis=(0, 1)) for seed in range(60)]))


def judge(orders: ChannelOrders, known: Unlikeness, pixels: Pixels) -> tuple[str, ...]:
    score = float(known.scores(pixels.mean(axis=(0, 1))[np.newaxis])[0])
    return orders.remarks(pixels, score)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (2, 3)])
def test_the_two_channels_that_are_swapped_are_named(
    known: Unlikeness, one: int, other: int
) -> None:
    order = list(range(4))
    order[one], order[other] = other, one
    found = judge(ChannelOrders(MeanEngine(), known, NAMES), known, draw(100)[..., order])
    assert found == (f"channel order: fits better with {NAMES[one]} and {NAMES[other]} swapped",)


def test_images_like_training_cost_nothing(known: Unlikeness) -> None:
    engine = MeanEngine()
    orders = ChannelOrders(engine, known, NAMES)
    assert orders.remarks(draw(100), 0.9) == ()
    assert engine.calls == 0


def test_what_no_order_makes_usual_has_no_remark_and_is_soon_not_tried_any_more(
    known: Unlikeness,
) -> None:
    engine = MeanEngine()
    orders = ChannelOrders(engine, known, NAMES)
    for seed in range(50):
        assert judge(orders, known, draw(seed) - 40) == ()
    assert engine.calls == 8 * 6


def test_missing_channels_and_colours_are_not_swapped(known: Unlikeness) -> None:
    engine = MeanEngine()
    orders = ChannelOrders(engine, known, NAMES)
    judge(orders, known, draw(0) * np.array([50, 50, 0, 0], np.float32))
    assert engine.calls == 1
    orders.remarks(np.zeros((8, 8, 4), np.float32), 9.0)
    assert engine.calls == 1
    colours = ChannelOrders(engine, known, ("red", "green", "blue"))
    assert colours.remarks(draw(0)[..., :3], 9.0) == ()
    assert engine.calls == 1
