"""Read JSON that somebody else may have made: bounded, without duplicate keys and NaN."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from napari_cellclf.errors import UnsafeModelError

MAX_DEPTH = 60

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def parse_json(text: bytes, name: str, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON strictly.

    Parameters
    ----------
    text : bytes
        UTF-8; its length is bounded by whoever read it.
    name : str
        What to call it in messages.
    max_depth : int
        Deepest nesting of lists and objects.

    Returns
    -------
    object
        As `json.loads`.

    Raises
    ------
    UnsafeModelError
        If it is not JSON, nested deeper, names a key twice or holds NaN or infinity.
    """
    _check_depth(text, name, max_depth)

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        parsed = dict(pairs)
        if len(parsed) != len(pairs):
            raise UnsafeModelError(f"{name} names a key twice, so that it says two things at once")
        return parsed

    def refuse(constant: str) -> NoReturn:
        raise UnsafeModelError(f"{name} holds {constant}, which is not a number JSON knows")

    try:
        return json.loads(text, object_pairs_hook=without_duplicates, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UnsafeModelError(f"{name} is not readable JSON; get the file again") from error


def _check_depth(text: bytes, name: str, max_depth: int) -> None:
    depth = 0
    for match in _TOKENS.finditer(text):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > max_depth:
                raise UnsafeModelError(f"{name} is nested deeper than {max_depth} levels")
        elif token in (b"]", b"}"):
            depth -= 1
