"""How sure a metric is: intervals from resampled groups or images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_cellclf.core.counting import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Of the intervals that evaluations report.
LEVEL, REPLICATES, SEED = 0.95, 1000, 0
#: With fewer units than these, no interval, or one that is said to be rough.
TOO_FEW, FEW = 3, 10

Statistic = Callable[["NDArray[np.float64]"], Mapping[str, float]]


@dataclass(frozen=True)
class Interval:
    """Where the value of a metric may lie."""

    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """What is drawn: groups of images that belong together, or single images.

    Images of one plate or one embryo resemble each other. To draw single ones would pretend that
    there are as many independent observations as images, and give intervals that are too narrow.
    """

    #: What one unit is.
    kind: Literal["group", "image"]
    #: The N images' units, numbered from 0.
    of_row: tuple[int, ...]
    #: How many units there are.
    count: int
    #: What a row is, in a word.
    noun: str = "image"

    @property
    def note(self) -> str:
        """How far the intervals can be trusted, in a sentence or more."""
        many = counted(self.count, "group" if self.kind == "group" else self.noun)
        if self.count < TOO_FEW:
            return (
                f"The {self.noun}s come from {many}, too few to say how much a metric would change "
                "with "
                "other ones: no intervals are given."
            )
        drawn = f"Intervals are from {many} resampled with replacement"
        warned = "" if self.count >= FEW else ", which are few: take the intervals as rough"
        alone = (
            ""
            if self.kind == "group"
            else "; no groups are known, and if some images belong together (one plate, one "
            "embryo), the true intervals are wider"
        )
        return f"{drawn}{warned}{alone}."


def units_of(groups: Sequence[str] | None, n: int, noun: str = "image") -> Units:
    """Choose what is drawn; `noun`: what a row is, in a word.

    Examples
    --------
    >>> units_of(["a", "a", "b"], 3).of_row, units_of(None, 3).kind
    ((0, 0, 1), 'image')
    """
    if groups is None or not any(groups):
        return Units("image", tuple(range(n)), n, noun)
    alone = [(group, -1) if group else ("", row) for row, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(alone))}
    return Units("group", tuple(numbers[key] for key in alone), len(numbers), noun)


def bootstrap(
    statistic: Statistic,
    units: Units,
    *,
    replicates: int = REPLICATES,
    seed: int = SEED,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Compute percentile intervals of metrics by drawing units with replacement.

    `statistic`: from how often each of the N images counts, an array of shape (N,), to named
    metrics; NaN where one is not defined, as for a class that was not drawn.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 (groups) and 13.

    Examples
    --------
    >>> right = np.array([1.0, 1.0, 0.0, 1.0] * 25)
    >>> mean = lambda weights: {"accuracy": float(np.average(right, weights=weights))}
    >>> interval = bootstrap(mean, units_of(None, 100))["accuracy"]
    >>> 0.64 < interval.low < 0.70, 0.80 < interval.high < 0.86
    (True, True)
    """
    if units.count < TOO_FEW:
        return {}
    random = np.random.default_rng(seed)
    of_row = np.asarray(units.of_row)
    drawn: dict[str, list[float]] = {}
    for _ in range(replicates):
        times = np.bincount(random.integers(0, units.count, units.count), minlength=units.count)
        for name, value in statistic(times[of_row].astype(np.float64)).items():
            drawn.setdefault(name, []).append(value)
    tail = 50 * (1 - level)
    intervals = {}
    for name, values in drawn.items():
        known = np.asarray(values)[~np.isnan(values)]
        if 2 * len(known) >= replicates and np.ptp(known) > 0:
            low, high = np.percentile(known, [tail, 100 - tail])
            intervals[name] = Interval(float(low), float(high))
    return intervals


def lowest_rate_without_failure(n: int, level: float = LEVEL) -> float:
    """Return how low a rate of success may be if `n` of `n` trials succeeded.

    The bootstrap cannot tell: whatever it draws is right.

    References
    ----------
    Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the
    binomial, Biometrika 26, 1934.

    Examples
    --------
    >>> round(lowest_rate_without_failure(24), 3)
    0.858
    """
    return float(((1 - level) / 2) ** (1 / n)) if n else 0.0
