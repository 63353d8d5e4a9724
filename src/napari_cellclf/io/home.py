"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Put the home folder in the place of a leading ``~``."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
