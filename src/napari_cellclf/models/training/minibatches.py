"""Training batches and their targets, which depend on seed, epoch and step only.

Nothing here has a state, so a run that was stopped anywhere resumes with exactly the batch that
would have come next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_cellclf.core.sampling import Balance, epoch_order
from napari_cellclf.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NARROWEST = 0.05


class Arrays(Protocol):
    """Anything with arrays by number: a list, an array, images on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Batch:
    """The data of one training step."""

    #: Number within the epoch, from 0.
    step: int
    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]


class Batches:
    """Draws the batches of each epoch.

    `arrays`: prepared images ``(Y, X, C)`` or features ``(F,)``. `labels`: ndarray of int, shape
    (N,); the class of each. `targets`: ndarray, shape (K, K), float32; the target of
    each class, from `soft_targets`.

    Examples
    --------
    >>> images = np.zeros((5, 8, 8, 1), "float32")
    >>> batches = Batches(images, np.array([0, 0, 1, 1, 1]), np.eye(2, dtype="float32"), 2)
    >>> batches.steps, [batch.inputs.shape for batch in batches.epoch(0, start=2)]
    (3, [(2, 8, 8, 1)])
    """

    def __init__(
        self,
        arrays: Arrays,
        labels: NDArray[np.intp],
        targets: NDArray[np.float32],
        batch_size: int = 32,
        *,
        balance: Balance = "none",
        seed: int = 0,
        steps: int | None = None,
        crop: int | None = None,
    ) -> None:
        self._arrays = arrays
        self._labels = np.asarray(labels)
        self._targets = targets
        self.batch_size = batch_size
        self._balance = balance
        self._seed = seed
        self._crop = None if crop is None else min(crop, *_sides(arrays))
        per_epoch = len(self._order(0))
        self.steps = steps or -(-per_epoch // batch_size)
        if self._crop is None:
            _check_equal_shapes(arrays)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        shape = self._arrays[0].shape
        return shape if self._crop is None else (self._crop, self._crop, shape[-1])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, each made while the one before is used."""
        rows = self._rows(epoch)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(self._batch, epoch, start, rows)
            for step in range(start, self.steps):
                batch = waiting.result()
                if step + 1 < self.steps:
                    waiting = thread.submit(self._batch, epoch, step + 1, rows)
                yield batch

    def batch(self, number: int) -> Batch:
        """Return a batch by its number over all epochs."""
        epoch, step = divmod(number, self.steps)
        return self._batch(epoch, step, self._rows(epoch))

    def _rows(self, epoch: int) -> NDArray[np.intp]:
        """Return the images of an epoch, round after round until all batches are full."""
        needed = self.steps * self.batch_size
        rounds: list[NDArray[np.intp]] = []
        count = 0
        while count < needed:
            rounds.append(self._order(epoch, len(rounds)))
            count += len(rounds[-1])
        return np.concatenate(rounds)[:needed]

    def _order(self, epoch: int, again: int = 0) -> NDArray[np.intp]:
        seed = int(np.random.SeedSequence([self._seed, again]).generate_state(1)[0])
        return epoch_order(self._labels, balance=self._balance, seed=seed, epoch=epoch)

    def _batch(self, epoch: int, step: int, rows: NDArray[np.intp]) -> Batch:
        chosen = rows[step * self.batch_size : (step + 1) * self.batch_size]
        if self._crop is None and isinstance(self._arrays, np.ndarray):
            inputs = self._arrays[chosen]
        else:
            random = np.random.default_rng([self._seed, epoch, step])
            inputs = np.stack([self._input(int(row), random) for row in chosen])
        return Batch(step, inputs, self._targets[self._labels[chosen]])

    def _input(self, row: int, random: np.random.Generator) -> NDArray[np.float32]:
        array = self._arrays[row]
        if self._crop is None:
            return array
        top, left = (int(random.integers(0, side - self._crop + 1)) for side in array.shape[:2])
        return array[top : top + self._crop, left : left + self._crop]


def soft_targets(
    n_classes: int,
    *,
    label_smoothing: float = 0.0,
    ordinal_smoothing: float = 0.0,
    class_weights: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Make the target of each true class.

    `class_weights`: ndarray, shape (K,), optional; each row is multiplied by its weight, since
    cross-entropy is linear in its target. Returns one row per true class, which sums to 1 or to
    the class's weight.

    Examples
    --------
    >>> soft_targets(2, label_smoothing=0.2).round(2).tolist()
    [[0.8999999761581421, 0.10000000149011612], [0.10000000149011612, 0.8999999761581421]]
    """
    targets = np.eye(n_classes)
    # A narrower bell is one-hot to every digit, and its exponent would overflow.
    if ordinal_smoothing > _NARROWEST:
        numbers = np.arange(n_classes)
        distance = (numbers[:, None] - numbers[None]) / ordinal_smoothing
        targets = np.exp(-0.5 * distance**2)
        targets /= targets.sum(axis=1, keepdims=True)
    targets = (1 - label_smoothing) * targets + label_smoothing / n_classes
    if class_weights is not None:
        targets = targets * class_weights[:, None]
    return targets.astype(np.float32)


class Subset:
    """Some of many arrays, renumbered."""

    def __init__(self, arrays: Arrays, numbers: Sequence[int] | NDArray[np.intp]) -> None:
        self._arrays = arrays
        self._numbers = np.asarray(numbers, np.intp)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int, /) -> NDArray[np.float32]:
        """Return one array."""
        return self._arrays[int(self._numbers[number])]


class Together:
    """Arrays of two lists, one after the other."""

    def __init__(self, first: Arrays, second: Arrays) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, number: int, /) -> NDArray[np.float32]:
        """Return one array."""
        behind = number - len(self._first)
        return self._first[number] if behind < 0 else self._second[behind]


def _shapes(arrays: Arrays) -> set[tuple[int, ...]]:
    return {arrays[number].shape for number in range(len(arrays))}


def _sides(arrays: Arrays) -> list[int]:
    return [side for shape in _shapes(arrays) for side in shape[:2]]


def _check_equal_shapes(arrays: Arrays) -> None:
    shapes: Any = sorted(_shapes(arrays))
    if len(shapes) > 1:
        raise DatasetError(
            f"the prepared images have {len(shapes)} different sizes, such as {shapes[0][:2]} and "
            f"{shapes[-1][:2]} pixels; set a size, or train on crops"
        )
