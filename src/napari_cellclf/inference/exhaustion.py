"""Tell a want of memory from other errors, whatever computes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_cellclf.errors import ImageTooLargeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What the errors of JAX's, PyTorch's, ONNX Runtime's and OpenVINO's allocators say, which have no
#: type of their own.
_FULL = (
    "RESOURCE_EXHAUSTED",
    "can't allocate memory",
    "out of memory",
    "Failed to allocate",
    "bad_alloc",
)


def or_exhausted(*errors: type[Exception]) -> tuple[type[Exception], ...]:
    """Add to a list of errors those that mean a want of memory."""
    tensorflow = sys.modules.get("tensorflow")
    # TensorFlow's is no RuntimeError; it can only be raised where TensorFlow is loaded.
    own = () if tensorflow is None else (tensorflow.errors.ResourceExhaustedError,)
    return (MemoryError, *own, *errors)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error means a want of memory."""
    if isinstance(error, or_exhausted()):
        return True
    return any(text in str(error) for text in _FULL)


def image_too_large(batch: NDArray[np.float32], place: str) -> ImageTooLargeError:
    """Make the error of a batch that did not fit.

    `batch`: ndarray, shape (N, Y, X, C), float32; what was to be computed.
    """
    count, height, width = batch.shape[:3]
    return ImageTooLargeError(
        f"{count} x {height} x {width} pixels need more memory than the {place} has free; give a "
        "smaller batch_size, or smaller images"
    )
