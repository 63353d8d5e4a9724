"""Divide images into parts: whole groups, every class in its proportion, the same for a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.float64]
    Parts = NDArray[np.int64]

#: The parts by name, in the order of their numbers here.
SPLITS = ("train", "validation", "test")
#: Up to this many ways to divide the groups are all looked at (three parts of eight groups).
_MOST_TRIED = 3**8
#: Up to this many groups, a division is improved group by group.
_MOST_IMPROVED = 400
#: Divisions that differ by less are as good as each other, and the seed chooses.
_AS_GOOD = 0.01
# What a class costs that is not in training, not in the last part (test), not in another part:
# each more than any distance.
_UNTRAINED, _UNTESTED, _ABSENT = 1e6, 1e2, 1e1


def split_random(
    labels: NDArray[np.integer], fractions: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Divide images at random, each class by itself.

    `labels`: ndarray of int, shape (N,); class numbers. Returns part of each image. A class with an
    image for each part is in all of them; of fewer images the first part (training) gets the first.

    Examples
    --------
    >>> parts = split_random(np.zeros(10, int), (0.6, 0.2, 0.2), seed=0)
    >>> np.bincount(parts).tolist()
    [6, 2, 2]
    """
    rng = np.random.default_rng(seed)
    parts = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        sizes = _sizes(len(rows), fractions)
        parts[rows] = np.repeat(np.arange(len(fractions)), sizes)
    return parts


def _sizes(total: int, fractions: Sequence[float]) -> NDArray[np.int64]:
    """Share out `total` by fractions; each part above zero gets one first, as far as they go."""
    wanted = total * np.asarray(fractions, np.float64)
    sizes = np.zeros(len(fractions), np.int64)
    # The last part is the test: more worth having than validation, where there are only two.
    order = [0, *range(len(fractions) - 1, 0, -1)]
    for part in order:
        if fractions[part] > 0 and sizes.sum() < total:
            sizes[part] = 1
    while sizes.sum() < total:
        sizes[int(np.argmax(wanted - sizes))] += 1
    return sizes


def split_groups(
    labels: NDArray[np.integer],
    groups: NDArray[np.integer],
    fractions: Sequence[float],
    seed: int,
    *,
    cover_first: bool = True,
) -> NDArray[np.int64]:
    """Divide images so that no group is in two parts.

    `labels`, `groups`: ndarray of int, shape (N,); numbers of classes and of groups, both from 0.
    Returns part of each image. Parts are as near to their fraction of every class as groups allow.

    Notes
    -----
    The distance of a division from the wanted one is, summed over parts and averaged over classes,
    ``(p - f) ** 2 / f`` with p the part's share of the class and f its fraction; before that counts
    that every class is in the first part, then in the last, then in the others. Eight groups are
    divided in every way; more go one after the other, largest first, to the part where the
    distance grows least, and are then moved and exchanged as long as that helps (as in iterative
    stratification, Sechidis, Tsoumakas and Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10).

    Examples
    --------
    >>> labels = np.tile([0, 1], 6)
    >>> groups = np.repeat(np.arange(6), 2)
    >>> parts = split_groups(labels, groups, (0.7, 0.15, 0.15), seed=0)
    >>> sorted(np.bincount(parts[::2]).tolist())
    [1, 1, 4]
    """
    n_groups, n_classes = int(groups.max(initial=-1)) + 1, int(labels.max(initial=-1)) + 1
    counts = np.bincount(groups * n_classes + labels, minlength=n_groups * n_classes)
    counts = counts.reshape(n_groups, n_classes)
    present = counts.sum(axis=0) > 0
    search = _Search(
        counts[:, present].astype(np.float64), np.asarray(fractions, np.float64), cover_first
    )
    rng = np.random.default_rng(seed)
    if len(search.open) ** n_groups <= _MOST_TRIED:
        assigned = search.try_all(rng)
    else:
        assigned = search.greedy(rng)
        if n_groups <= _MOST_IMPROVED:
            assigned = search.improve(assigned, rng)
    return np.asarray(assigned[groups])


def deal(labels: NDArray[np.integer], n_parts: int, seed: int) -> NDArray[np.int64]:
    """Deal out the images of each class in turn, going on where the last class ended."""
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    rows = np.concatenate(by_class)
    parts = np.empty(len(labels), np.int64)
    parts[rows] = np.arange(len(rows)) % n_parts
    return parts


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse what cannot be the fractions of training, validation and test."""
    good = len(fractions) == 3 and all(0 <= part <= 1 for part in fractions)
    if not good or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        given = ", ".join(f"{part:g}" for part in fractions)
        raise DatasetError(
            f"the fractions {given} are not those of training, validation and test; give three "
            "that sum to 1, the first above 0, such as 0.7, 0.15 and 0.15"
        )


class _Search:
    """Look for the division of groups that is nearest to the wanted one."""

    def __init__(self, counts: Counts, fractions: Counts, cover_first: bool) -> None:
        # As shares of each class, so that rare classes count as much as frequent ones.
        self.shares = counts / counts.sum(axis=0)
        self.sizes = counts.sum(axis=1)
        self.fractions = fractions
        self.cover_first = cover_first
        self.open = np.flatnonzero(fractions > 0)

    def distance(self, shares: Counts) -> NDArray[np.float64]:
        """Tell how far divisions are from the wanted one, `shares` of shape (..., parts, K)."""
        wanted = self.fractions[self.open][:, None]
        found = shares[..., self.open, :]
        off = (((found - wanted) ** 2) / wanted).sum(axis=-2).mean(axis=-1)
        absent = (found <= 0).sum(axis=-1)
        costs = np.full(len(self.open), _ABSENT)
        if self.cover_first:
            # A class that is not tested is worse than one that is not validated.
            costs[-1], costs[0] = _UNTESTED, _UNTRAINED
        return np.asarray(off + absent @ costs)

    def shares_of(self, assigned: Parts) -> Counts:
        """Sum the shares of the groups of each part."""
        total = np.zeros((len(self.fractions), self.shares.shape[1]))
        np.add.at(total, assigned, self.shares)
        return total

    def try_all(self, rng: np.random.Generator) -> Parts:
        """Look at every division; `rng` chooses among the best ones."""
        n_groups = len(self.shares)
        grid = np.indices((len(self.open),) * n_groups).reshape(n_groups, -1).T
        assigned = self.open[grid]
        parts = np.arange(len(self.fractions))
        shares = np.stack([(assigned == part) @ self.shares for part in parts], axis=1)
        distances = self.distance(shares)
        best = np.flatnonzero(distances <= distances.min() + _AS_GOOD)
        return np.asarray(assigned[rng.choice(best)])

    def greedy(self, rng: np.random.Generator) -> Parts:
        """Place one group after the other, the largest first."""
        assigned = np.full(len(self.shares), -1, np.int64)
        total = np.zeros((len(self.fractions), self.shares.shape[1]))
        shuffled = rng.permutation(len(self.shares))
        order = shuffled[np.argsort(-self.sizes[shuffled], kind="stable")]
        if self.cover_first:
            # First one group of each class for training, those of few groups before others.
            self._cover(assigned, total, order)
        for group in order:
            if assigned[group] < 0:
                tried = np.repeat(total[None], len(self.open), axis=0)
                tried[np.arange(len(self.open)), self.open] += self.shares[group]
                self._place(
                    group, int(self.open[np.argmin(self._shortfall(tried))]), assigned, total
                )
        return assigned

    def _shortfall(self, shares: Counts) -> NDArray[np.float64]:
        wanted = self.fractions[self.open][:, None]
        off = ((shares[:, self.open] - wanted) ** 2 / wanted).sum(axis=(1, 2))
        return np.asarray(off)

    def _cover(self, assigned: Parts, total: Counts, order: Parts) -> None:
        has = self.shares > 0
        for label in np.argsort(has.sum(axis=0), kind="stable"):
            if total[0, label] <= 0:
                # The smallest such group, so that the large ones stay free to balance the parts.
                group = [group for group in order if has[group, label]][-1]
                self._place(int(group), 0, assigned, total)

    def _place(self, group: int, part: int, assigned: Parts, total: Counts) -> None:
        assigned[group] = part
        total[part] += self.shares[group]

    def improve(self, assigned: Parts, rng: np.random.Generator) -> Parts:
        """Move and exchange groups as long as the distance becomes smaller."""
        total = self.shares_of(assigned)
        best = float(self.distance(total))
        improved = True
        while improved:
            improved = False
            for group in rng.permutation(len(assigned)):
                found, changes = self._best_change(int(group), assigned, total)
                if found < best - 1e-9:
                    for changed, part in changes:
                        assigned[changed] = part
                    total, best, improved = self.shares_of(assigned), found, True
        return assigned

    def _best_change(
        self, group: int, assigned: Parts, total: Counts
    ) -> tuple[float, list[tuple[int, int]]]:
        """Find the best move of a group, or exchange with another one."""
        here = int(assigned[group])
        others = np.flatnonzero(assigned != here)
        moves = [(None, int(part)) for part in self.open if part != here]
        exchanges = [(int(other), int(assigned[other])) for other in others]
        candidates: list[tuple[int | None, int]] = [*moves, *exchanges]
        tried = np.repeat(total[None], len(candidates), axis=0)
        change = np.repeat(self.shares[group][None], len(candidates), axis=0)
        change[len(moves) :] -= self.shares[others]
        rows = np.arange(len(candidates))
        tried[:, here] -= change
        tried[rows, [part for _, part in candidates]] += change
        # What should be zero after a subtraction must not count as an image.
        tried[np.abs(tried) < 1e-12] = 0
        distances = self.distance(tried)
        first = int(np.argmin(distances))
        other, part = candidates[first]
        changes = [(group, part)] if other is None else [(group, part), (other, here)]
        return float(distances[first]), changes
