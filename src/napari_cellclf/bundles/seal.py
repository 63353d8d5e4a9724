"""One hash over what `bundle.json` says, so that no word of it changes unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "spec_sha256"
#: The hashes of the other files prove themselves; the seal cannot contain itself.
_LEFT_OUT = ("files", SEAL)


def seal_of(described: Mapping[str, Any]) -> str:
    """Hash a description, whatever its layout: the order of classes counts, that of keys does not.

    Examples
    --------
    >>> first = seal_of({"classes": ["a", "b"], "temperature": 1.0})
    >>> first == seal_of({"temperature": 1.0, "classes": ["a", "b"], "files": {}})
    True
    >>> first == seal_of({"classes": ["b", "a"], "temperature": 1.0})
    False
    """
    kept = {key: value for key, value in described.items() if key not in _LEFT_OUT}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
