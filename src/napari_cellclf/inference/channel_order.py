"""Find out whether an image that is unlike training has two of its channels swapped."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_cellclf.core.unlikeness import Unlikeness
    from napari_cellclf.inference.engine import Engine

#: Images in which nothing is found before no more are tried: each costs as many predictions as
#: there are pairs of channels.
_TRIES = 8
#: A swap fits clearly better where its score is no more than this fraction of the image's own.
_CLEARLY = 0.75
#: The order of a colour camera is known; a change of colour is a change of stain.
_RGB = ("red", "green", "blue")


class ChannelOrders:
    """Tries the channels of unlike images in other orders, as long as that finds anything.

    `channels`: names, in the model's order.
    """

    def __init__(self, engine: Engine, unlikeness: Unlikeness, channels: Sequence[str]) -> None:
        self._engine = engine
        self._unlikeness = unlikeness
        self._channels = tuple(channels)
        self._tries = 0 if self._channels == _RGB else _TRIES

    def remarks(self, pixels: NDArray[np.float32], score: float) -> tuple[str, ...]:
        """Name the two channels of a prepared image ``(Y, X, C)`` that are swapped, if any are.

        `score`: of the image as it is.
        """
        if score <= 1 or self._tries < 1:
            return ()
        # A channel that is missing, or constant, cannot be told from another one.
        told = [i for i in range(pixels.shape[-1]) if np.ptp(pixels[..., i]) > 0]
        found = [(self._swapped(pixels, pair), pair) for pair in combinations(told, 2)]
        best, (one, other) = min(found, default=(np.inf, (0, 0)))
        if not best <= min(1.0, _CLEARLY * score):
            self._tries -= 1
            return ()
        self._tries = _TRIES
        names = self._channels
        return (f"channel order: fits better with {names[one]} and {names[other]} swapped",)

    def _swapped(self, pixels: NDArray[np.float32], pair: tuple[int, int]) -> float:
        order = np.arange(pixels.shape[-1])
        order[list(pair)] = pair[::-1]
        swapped = np.ascontiguousarray(pixels[np.newaxis, ..., order])
        features = self._engine.compute(swapped, features=True).features
        assert features is not None  # the engine gives them
        return float(self._unlikeness.scores(features)[0])
