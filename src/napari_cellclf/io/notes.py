"""Small files of JSON that a program wrote for itself, and that may be damaged by now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from napari_cellclf.io.regular_files import read_regular

#: A report of a thousand classes has a tenth of it.
_MOST_BYTES = 1 << 26


def read_note(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None where there is none, or nothing of the kind."""
    try:
        # Bytes that are no text, and numbers of thousands of digits, are ValueErrors, too.
        found = json.loads(read_regular(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
