"""What a network should answer: the truth of each class, softened and weighted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NARROWEST = 0.05


def soft_targets(
    n_classes: int,
    *,
    label_smoothing: float = 0.0,
    ordinal_smoothing: float = 0.0,
    class_weights: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Make the target of each true class.

    `class_weights`: ndarray, shape (K,), optional; what a row weighs; cross-entropy is linear in
    its target. Returns one row a true class; rows sum to 1, or to the class's weight.

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
