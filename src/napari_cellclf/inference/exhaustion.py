"""Tell a want of memory from other errors, whatever the backend."""

from __future__ import annotations

import sys

#: What the errors of PyTorch's and JAX's allocators say, which are plain RuntimeErrors.
_FULL = ("RESOURCE_EXHAUSTED", "can't allocate memory", "out of memory")


def or_exhausted(*errors: type[Exception]) -> tuple[type[Exception], ...]:
    """Add to a list of errors those that mean a want of memory.

    Parameters
    ----------
    *errors : type
        Errors to catch anyway.

    Returns
    -------
    tuple of type
        For an ``except``.
    """
    tensorflow = sys.modules.get("tensorflow")
    # TensorFlow's is no RuntimeError; it can only be raised where TensorFlow is loaded.
    own = () if tensorflow is None else (tensorflow.errors.ResourceExhaustedError,)
    return (MemoryError, *own, *errors)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error means a want of memory.

    Parameters
    ----------
    error : BaseException
        Any.

    Returns
    -------
    bool
        True for Python's, TensorFlow's, PyTorch's and JAX's ways to say so.
    """
    if isinstance(error, or_exhausted()):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)
