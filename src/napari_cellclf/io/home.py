"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Put the home folder in the place of a leading ``~``.

    Parameters
    ----------
    path : str or Path
        As it was typed.

    Returns
    -------
    Path
        The same where nobody is called what stands after the ``~``: `Path.expanduser` raises a
        RuntimeError then, although a file may well be named like that.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
