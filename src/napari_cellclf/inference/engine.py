"""What a classifier asks of whatever computes its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Engine(Protocol):
    """Computes a network: prepared pixels in, probabilities out."""

    @property
    def device(self) -> str:
        """What computes, and where, such as ``"openvino 2026.4.1, CPU, bfloat16"``."""
        ...

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute.

        Parameters
        ----------
        batch : ndarray, shape (N, Y, X, C), float32
            From `Preprocessing`; any N from 1.

        Returns
        -------
        ndarray, shape (N, K), float32
            Probabilities, before any temperature.
        """
        ...
