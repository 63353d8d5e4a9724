"""How unlike an image is to everything that a model was trained on, from the network's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Fraction of images of known groups that may be called unlike, if there are groups enough.
LEVEL = 0.05
#: Images that are compared with, and principal components in which they are kept.
_MOST_KNOWN, _MOST_DIRECTIONS = 2000, 64
#: Numbers in all directions together, at most: half a megabyte in a file.
_MOST_NUMBERS = 250_000
#: Left-out images by which the threshold is chosen, at most.
_MOST_LEFT_OUT = 20_000
#: A distance, in units of the spread of the known images, that may be no more than rounding.
_ROUNDING = 1e-2
#: Rows that are compared at a time.
_ROWS = 1024
_KEYS = ("mean", "directions", "known", "residues", "spread", "threshold", "level", "n_groups")


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Images that a network was not trained on, as that network sees them.

    `known`: features of the images that it was trained on, shape (N, F). `features`: of those that
    it was not, shape (M, F). `groups`: what each of these belongs to, shape (M,).
    """

    known: NDArray[np.float32]
    features: NDArray[np.float32]
    groups: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Unlikeness:
    """The distance of an image to the nearest known one, between their features.

    The known images are kept as their principal components. What lies outside of these, of a known
    image and of a new one, is taken to be at right angles, so that a new image cannot hide there.
    Distances are in units of the spread of the known images, the root of their mean square.

    `mean`: shape (F,). `directions`: shape (F, D), of length 1. `known`: shape (N, D). `residues`:
    squared lengths outside of the directions, shape (N,). `spread`: in units of the features.
    `threshold`: the distance whose score is 1. `level`: the fraction of images of known groups
    above it, at most. `n_groups`: groups that were left out to choose it; 0 if each image stood for
    itself.

    Notes
    -----
    The threshold is conformal. Each left-out image is compared with the images of other groups; the
    groups weigh the same, and the images of a group share its weight (hierarchical conformal
    prediction: Lee, Barber and Willett 2023, arXiv:2306.06342). If a new group is drawn as the
    known ones were, an image drawn from it is above the threshold with a probability of at most
    `level`, however many images a group has. A new image is compared with all groups, a left-out
    one with one group less: the nearest of more is never farther, so that leaving out errs on the
    safe side. With ``n`` groups no level below ``1 / (n + 1)`` can be kept; then the threshold is
    the largest distance that was seen, and `level` says so.

    That holds on average over what might have been drawn, not for the worst group; and of images
    that a network was fitted to it says nothing, so that these must not choose the threshold.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    known: NDArray[np.float32]
    residues: NDArray[np.float32]
    spread: float
    threshold: float
    level: float
    n_groups: int

    @property
    def n_images(self) -> int:
        """Images that are compared with."""
        return len(self.known)

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        left_out: ArrayLike | None = None,
        level: float = LEVEL,
    ) -> Unlikeness:
        """Learn what is usual, and choose a threshold from groups (else images) left out in turn.

        `features`: shape (N, F). `groups`: what each image belongs to, shape (N,); None where each
        stands for itself. `left_out`: which images the network was not fitted to, shape (N,); they
        alone choose the threshold. By default all, as with a frozen backbone.
        """
        rows = _checked(features)
        keys = np.arange(len(rows))
        if groups is not None:
            keys = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
        chosen = np.ones(len(rows), bool) if left_out is None else np.asarray(left_out, bool)
        if len(keys) != len(rows) or len(chosen) != len(rows):
            raise InputError(
                f"{len(rows)} rows of features do not fit {len(keys)} groups and {len(chosen)} "
                "marks of what was left out; give one of each for every image"
            )
        numbers = _some(np.flatnonzero(chosen), _MOST_LEFT_OUT)
        kept = _some(np.arange(len(rows)), _MOST_KNOWN)
        space = _Space.fit(rows[kept])
        apart = space.distances(rows[numbers], keys[numbers], keys[kept])
        found = np.isfinite(apart)
        if not found.any():
            raise InputError(
                "no image was left out, or there are none of other groups to compare it with; what "
                "is unlike training cannot be told"
            )
        counted = groups is not None
        return cls._made(space, apart[found], keys[numbers][found], level, counted)

    @classmethod
    def fit_left_out(
        cls, features: ArrayLike, parts: Sequence[LeftOut], *, level: float = LEVEL
    ) -> Unlikeness:
        """Choose the threshold by networks of the same kind, each trained without some groups.

        `features`: of the images that the final network was trained on, as it sees them, shape (N,
        F). `parts`: what each of the other networks was trained on and what it was not.
        """
        distances = []
        for part in parts:
            known = _checked(part.known)
            space = _Space.fit(known[_some(np.arange(len(known)), _MOST_KNOWN)])
            distances.append(space.distances(_checked(part.features)))
        if not parts:
            raise InputError("no network was trained without some groups; give one part or more")
        rows = _checked(features)
        space = _Space.fit(rows[_some(np.arange(len(rows)), _MOST_KNOWN)])
        groups = np.concatenate([np.asarray(part.groups) for part in parts])
        return cls._made(space, np.concatenate(distances), groups, level, True)

    @classmethod
    def _made(
        cls,
        space: _Space,
        distances: NDArray[np.float64],
        groups: NDArray[Any],
        level: float,
        counted: bool,
    ) -> Unlikeness:
        n_groups = len(np.unique(groups))
        level = smallest_level(n_groups, level)
        threshold = max(conformal_threshold(distances, groups, level), _ROUNDING)
        return cls(
            space.mean,
            space.directions,
            space.known,
            space.residues,
            space.spread,
            threshold,
            level,
            n_groups if counted else 0,
        )

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a number for each row of `features`, shape (N, F); above 1 is unlike."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(
                f"features of shape {features.shape} were given, but those of the training images "
                f"have {len(self.mean)} numbers; use the network that they are from"
            )
        space = _Space(self.mean, self.directions, self.known, self.residues, self.spread)
        return (space.distances(features) / self.threshold).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that it consists of, by name."""
        types: dict[str, type[np.floating[Any]]] = dict.fromkeys(_KEYS, np.float32)
        types |= dict.fromkeys(("directions", "known"), np.float16)
        types |= dict.fromkeys(_KEYS[4:], np.float64)
        return {key: np.atleast_1d(np.asarray(getattr(self, key), types[key])) for key in _KEYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Unlikeness:
        """Make it again of what `to_arrays` returned; refuse what does not fit together."""
        found = dict(arrays)
        shapes = {key: array.shape for key, array in found.items()}
        width, depth = (*shapes.get("directions", ()), 0, 0)[:2]
        n_known = (*shapes.get("known", ()), 0)[0]
        expected = dict.fromkeys(_KEYS[4:], (1,)) | {
            "mean": (width,), "directions": (width, depth), "known": (n_known, depth),
            "residues": (n_known,),
        }  # fmt: skip
        if shapes != expected or 0 in (width, n_known):
            raise InputError(f"arrays of shapes {shapes} do not describe what is usual")
        if any(array.dtype.kind not in "fiu" for array in found.values()):
            raise InputError("what is usual is described by something else than numbers")
        if not all(np.isfinite(array).all() for array in found.values()):
            raise InputError("what is usual is described by NaN or infinity")
        numbers = {key: found[key].astype(np.float32) for key in _KEYS[:4]}
        spread, threshold, level, n_groups = (float(found[key].item()) for key in _KEYS[4:])
        if not min(spread, threshold) > 0 or not 0 < level < 1 or not n_groups >= 0:
            raise InputError(
                f"a threshold of {threshold:g} times {spread:g} at the level {level:g} of "
                f"{n_groups:g} groups cannot be used"
            )
        return cls(
            **numbers, spread=spread, threshold=threshold, level=level, n_groups=int(n_groups)
        )


def smallest_level(n_groups: int, wanted: float = LEVEL) -> float:
    """Return the smallest level from `wanted` up that so many groups support."""
    return max(wanted, 1 / (n_groups + 1))


def conformal_threshold(scores: NDArray[np.float64], groups: NDArray[Any], level: float) -> float:
    """Return what an image of a new group exceeds with a probability of at most `level`.

    `scores`, `groups`: of the left-out images, shape (N,). Every group has the same weight and the
    new one, of which nothing is known, as much; the images of a group share its weight.
    """
    keys, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    weights = 1 / ((len(sizes) + 1) * sizes[keys.reshape(-1)])
    order = np.argsort(scores, kind="stable")
    # Sums of fractions end a little beside what they are.
    reached = np.cumsum(weights[order]) >= 1 - level - 1e-9
    place = int(np.argmax(reached)) if reached.any() else len(scores) - 1
    return float(scores[order[place]])


@dataclass(frozen=True, eq=False)
class _Space:
    """Known images, and distances from them; the arrays are those of `Unlikeness`."""

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    known: NDArray[np.float32]
    residues: NDArray[np.float32]
    spread: float

    @classmethod
    def fit(cls, features: NDArray[np.float32]) -> _Space:
        rows = features.astype(np.float64)
        mean = rows.mean(axis=0).astype(np.float32)
        rows -= mean
        spread = float(np.sqrt((rows**2).sum(axis=1).mean()))
        if not spread > np.abs(mean).max() * 1e-6:
            raise InputError("all images have the same features, so that they tell nothing")
        axes = np.linalg.svd(rows / spread, full_matrices=False)[2]
        kept = min(_MOST_DIRECTIONS, max(1, _MOST_NUMBERS // len(mean)))
        # As they are kept in a file.
        directions = axes[:kept].T.astype(np.float16).astype(np.float32)
        nothing = np.zeros((0, directions.shape[1]), np.float32)
        empty = cls(mean, directions, nothing, nothing[:, 0], spread)
        known, residues = empty._split(features)
        known = known.astype(np.float16).astype(np.float32)
        return cls(mean, directions, known, residues, spread)

    def distances(
        self,
        features: NDArray[np.float32],
        keys: NDArray[Any] | None = None,
        known_keys: NDArray[Any] | None = None,
    ) -> NDArray[np.float64]:
        """Return how far each row is from the nearest known image; with keys, of another key."""
        found = np.empty(len(features))
        lengths = (self.known.astype(np.float64) ** 2).sum(axis=1) + self.residues
        for first in range(0, len(features), _ROWS):
            some = slice(first, first + _ROWS)
            inside, outside = self._split(features[some])
            exact = inside.astype(np.float64)
            squares = ((exact**2).sum(axis=1) + outside)[:, np.newaxis] + lengths
            squares -= 2 * exact @ self.known.T
            if keys is not None:
                squares[keys[some, np.newaxis] == known_keys] = np.inf
            found[some] = np.sqrt(np.maximum(squares.min(axis=1), 0))
        return found

    def _split(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the part along the directions, and the squared length of the rest."""
        rows = (features.astype(np.float64) - self.mean) / self.spread
        inside = rows @ self.directions
        outside = np.maximum((rows**2).sum(axis=1) - (inside**2).sum(axis=1), 0)
        return inside.astype(np.float32), outside.astype(np.float32)


def _checked(features: ArrayLike) -> NDArray[np.float32]:
    rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"features of shape {rows.shape} are not those of images; give (N, F)")
    if not np.isfinite(rows).all():
        raise InputError("the features hold NaN or infinity; leave these images out")
    return rows


def _some(numbers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Draw so many at most, the same each time."""
    if len(numbers) <= most:
        return numbers
    return np.sort(np.random.default_rng(0).choice(numbers, most, replace=False))
