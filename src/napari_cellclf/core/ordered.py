"""Classes that lie on a scale, such as stages: how far off an answer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.classes import ClassSpec


@dataclass(frozen=True, eq=False)
class Scale:
    """Where each class lies."""

    #: In `unit`.
    values: NDArray[np.float64]
    #: Such as ``"minute"``; empty if the classes do not say.
    unit: str

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Place of each class among the different values, from 0, shape (K,)."""
        return np.asarray(np.unique(self.values, return_inverse=True)[1], np.int64)

    def errors(
        self, truth: NDArray[np.integer], answers: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return how far each answer is off.

        `truth`, `answers`: ndarray of int, shape (N,); class numbers. Returns in the scale's unit,
        never negative.
        """
        return np.asarray(np.abs(self.values[truth] - self.values[answers]))

    def steps(self, truth: NDArray[np.integer], answers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return by how many classes each answer is off.

        `truth`, `answers`: ndarray of int, shape (N,); class numbers. Returns 0 where it is right,
        1 where it is a neighbour.
        """
        return np.asarray(np.abs(self.ranks[truth] - self.ranks[answers]))


def scale_of(classes: Sequence[ClassSpec]) -> Scale | None:
    """Return the scale that classes lie on.

    Examples
    --------
    >>> from napari_cellclf.core.classes import ClassSpec
    >>> stages = [ClassSpec(name=f"{m:03}", value=m, unit="minute") for m in (51, 60, 69)]
    >>> scale = scale_of(stages)
    >>> scale.errors(np.array([0, 0]), np.array([1, 2])).tolist(), scale.unit
    ([9.0, 18.0], 'minute')
    """
    values = [one.value for one in classes if one.value is not None]
    units = {one.unit or "" for one in classes}
    if len(values) < len(classes) or len(units) > 1 or len(set(values)) < 2:
        return None
    return Scale(np.asarray(values, np.float64), units.pop())
