"""Values of settings as people type them."""

from __future__ import annotations

import tomllib
from typing import Any


def parse_value(text: str) -> Any:
    """Read a value as TOML where it is, else as text.

    Examples
    --------
    >>> parse_value("0.1"), parse_value("[32, 32]"), parse_value("none"), parse_value("null")
    (0.1, [32, 32], 'none', None)
    """
    if text == "null":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
