"""Check LZW data before they are decoded: the decoder can be made to crash the whole process.

imagecodecs 2026.3 reads outside its table if the first code after a Clear code is not a literal;
one altered byte is enough. Codes are found here as TIFF 6.0 (section 13) packs them, without
decoding anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CLEAR, _END = 256, 257
#: How many codes after a Clear code have 9, 10 and 11 bits; all others have 12.
_WIDTHS = np.repeat(np.array([9, 10, 11, 12]), [254, 512, 1024, 2400])
_OFFSETS = np.concatenate([[0], np.cumsum(_WIDTHS)])
#: Encoders clear the table when it is full, about every 5 kB. Many more Clear codes than that are
#: not the work of an encoder, and would take long to check.
_BYTES_A_CLEAR = 1024


def lzw_is_sound(data: bytes) -> bool:
    """Whether every table of an LZW stream begins with a literal.

    `data`: bytes; one strip or tile.
    """
    if data[:1] == b"\x00" and len(data) > 1 and data[1] & 1:
        return False
    padded = np.frombuffer(data + b"\0\0\0", np.uint8)
    bits = 8 * len(data)
    position, clears = 0, 0
    while position + 9 <= bits:
        codes, ends = _codes(padded, position, bits, fresh=True)
        if codes[0] > _END:
            return False
        while not (marks := np.flatnonzero((codes == _CLEAR) | (codes == _END))).size:
            if ends[-1] + 12 > bits:
                # The stream ends without an end code, as some encoders leave it.
                return True
            codes, ends = _codes(padded, int(ends[-1]), bits, fresh=False)
        first = int(marks[0])
        if codes[first] == _END:
            return True
        position, clears = int(ends[first]), clears + 1
        if clears > 16 + len(data) // _BYTES_A_CLEAR:
            return False
    return True


def _codes(
    padded: np.ndarray[Any, np.dtype[np.uint8]], position: int, bits: int, *, fresh: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the codes from a bit on, and the bit behind each.

    `fresh` is whether a table begins there; otherwise it is full and all codes have 12 bits.
    """
    widths = _WIDTHS if fresh else np.full(_WIDTHS.size, 12)
    offsets = _OFFSETS if fresh else 12 * np.arange(_WIDTHS.size + 1)
    count = int(np.searchsorted(offsets, bits - position, side="right")) - 1
    starts, ends = position + offsets[:count], position + offsets[1 : count + 1]
    byte = starts >> 3
    word = padded[byte].astype(np.int64) << 16
    word |= padded[byte + 1].astype(np.int64) << 8
    word |= padded[byte + 2]
    codes = (word >> (24 - widths[:count] - (starts & 7))) & ((1 << widths[:count]) - 1)
    return codes, ends
