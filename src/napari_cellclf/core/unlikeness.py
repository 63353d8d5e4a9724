"""How unlike an image is to everything that a model was trained on, from the network's features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Directions that are kept; of the others there are too few images to tell what is usual.
_MOST_DIRECTIONS = 64
#: Rows that are compared at a time.
_ROWS = 1024
_KEYS = ("mean", "directions", "known", "threshold", "level", "n_groups")


@dataclass(frozen=True, eq=False)
class Unlikeness:
    """The distance to the nearest training image, among whitened principal components.

    `mean`: shape (F,). `directions`: shape (F, D), each scaled to unit variance. `known`: shape (N,
    D). `threshold`: the distance whose score is 1. `level`: the fraction of images of known groups
    above it, at most. `n_groups`: groups that were left out in turn to choose it.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    known: NDArray[np.float32]
    threshold: float
    level: float
    n_groups: int

    @property
    def n_images(self) -> int:
        """Images that are compared with."""
        return len(self.known)

    @classmethod
    def fit(
        cls, features: NDArray[Any], groups: NDArray[Any] | None = None, *, level: float = 0.05
    ) -> Unlikeness:
        """Learn what is usual, and a threshold from groups (else images) left out in turn.

        `features`: shape (N, F). `groups`: shape (N,).
        """
        if len(features) < 3:
            raise InputError(f"{len(features)} images are too few to learn what is usual; give 3")
        keys = np.arange(len(features))
        if groups is not None:
            keys = np.unique(groups, return_inverse=True)[1]
        mean, directions = _whitening(features)
        known = ((features - mean) @ directions).astype(np.float32)
        apart = _nearest(known, known, keys)
        n_groups = len(np.unique(keys))
        worst = np.sort([apart[keys == key].max() for key in range(n_groups)])
        level = max(level, 1 / (n_groups + 1))
        place = int(np.ceil((1 - level) * (n_groups + 1))) - 1
        threshold = max(float(worst[min(place, n_groups - 1)]), 1e-12)
        counted = 0 if groups is None else n_groups
        return cls(mean, directions, known, threshold, level, counted)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a number for each row of `features`, shape (N, F); above 1 is unlike."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(
                f"features of shape {features.shape} were given, but those of the training images "
                f"have {len(self.mean)} numbers; use the network that they are from"
            )
        seen = ((features - self.mean) @ self.directions).astype(np.float32)
        return (_nearest(seen, self.known) / self.threshold).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that it consists of, by name."""
        return {key: np.atleast_1d(getattr(self, key)) for key in _KEYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Unlikeness:
        """Make it again of what `to_arrays` returned; refuse what does not fit together."""
        found = dict(arrays)
        shapes = {key: array.shape for key, array in found.items()}
        width, depth = (*shapes.get("directions", ()), 0, 0)[:2]
        rows = shapes.get("known", ())
        expected = dict.fromkeys(("threshold", "level", "n_groups"), (1,)) | {
            "mean": (width,), "directions": (width, depth), "known": (*rows[:1], depth),
        }  # fmt: skip
        if shapes != expected or 0 in (width, depth, *rows):
            raise InputError(f"arrays of shapes {shapes} do not describe what is usual")
        if any(array.dtype.kind not in "fiu" for array in found.values()):
            raise InputError("what is usual is described by something else than numbers")
        numbers = {key: found[key].astype(np.float32) for key in ("mean", "directions", "known")}
        threshold, level, n_groups = (found[key].item() for key in _KEYS[3:])
        if not threshold > 0 or not 0 < level < 1 or not n_groups >= 0:
            raise InputError(f"a threshold of {threshold:g} at the level {level:g} cannot be used")
        return cls(**numbers, threshold=threshold, level=level, n_groups=int(n_groups))


def _whitening(features: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = features.mean(axis=0)
    _, lengths, axes = np.linalg.svd(features - mean, full_matrices=False)
    kept = lengths > lengths[0] * 1e-3
    kept[_MOST_DIRECTIONS:] = False
    spread = lengths[kept] / np.sqrt(len(features))
    if not kept.any() or not spread[0] > 0:
        raise InputError("all images have the same features, so that nothing can be told by them")
    return mean.astype(np.float32), (axes[kept].T / spread).astype(np.float32)


def _nearest(
    rows: NDArray[np.float32], known: NDArray[np.float32], keys: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Return the distance of each row to the nearest known one; with keys, of another key."""
    found = np.empty(len(rows))
    lengths = (known.astype(np.float64) ** 2).sum(axis=1)
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS].astype(np.float64)
        squares = (some**2).sum(axis=1)[:, np.newaxis] + lengths - 2 * some @ known.T
        if keys is not None:
            squares[keys[first : first + _ROWS, np.newaxis] == keys] = np.inf
        found[first : first + _ROWS] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return found
