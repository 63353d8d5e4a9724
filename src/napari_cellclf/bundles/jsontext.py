"""Read JSON that somebody else may have made: bounded, without duplicate keys and NaN."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import numpy as np

from napari_cellclf.errors import UnsafeModelError

MAX_DEPTH = 60
#: Lists and objects, and what stands in them: what parsing costs, whatever the bytes.
MAX_GROUPS = 40_000
MAX_ITEMS = 120_000

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(text: bytes, name: str, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON strictly.

    `text`: bytes; UTF-8; its length is bounded by whoever read it.
    """
    _check_extent(text, name, max_depth)

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        parsed = dict(pairs)
        if len(parsed) != len(pairs):
            raise UnsafeModelError(f"{name} names a key twice, so that it says two things at once")
        return parsed

    def refuse(constant: str) -> NoReturn:
        raise UnsafeModelError(
            f"{name} holds {constant[:20]}, which is not a number that JSON knows"
        )

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits)

    try:
        # Decoded here, since json would guess other encodings, in which nothing was counted.
        parsed = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=without_duplicates,
            parse_constant=refuse,
            parse_float=finite,
        )
        if _SURROGATE.search(text):
            # Half a character, which no one could print or write down.
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise UnsafeModelError(f"{name} is not readable JSON; get the file again") from error
    return parsed


def _check_extent(text: bytes, name: str, max_depth: int) -> None:
    """Count what is outside the quotes, at a cost that does not depend on it."""
    # Escaped backslashes first, so that what is left before a quote escapes it.
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    characters = np.frombuffer(plain, np.uint8)
    outside = np.logical_xor.accumulate(characters == ord('"')) == 0
    opens = outside & ((characters == ord("[")) | (characters == ord("{")))
    closes = outside & ((characters == ord("]")) | (characters == ord("}")))
    items = int(np.count_nonzero(outside & (characters == ord(","))))
    if int(np.count_nonzero(opens)) > MAX_GROUPS or items > MAX_ITEMS:
        raise UnsafeModelError(f"{name} holds more than such files do; save it again")
    depth = np.cumsum(opens.astype(np.int8) - closes.astype(np.int8), dtype=np.int32)
    if depth.size and int(depth.max()) > max_depth:
        raise UnsafeModelError(f"{name} is nested deeper than {max_depth} levels")
