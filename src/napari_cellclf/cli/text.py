"""Text that is safe and readable on a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    r"""Escape what a terminal would act on: control characters, line ends, undecodable bytes.

    Examples
    --------
    >>> printable("plate" + chr(10) + "1.png")
    'plate\\n1.png'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Set rows of text in columns.

    Examples
    --------
    >>> print(columns([["a", "1"], ["bcd", "2"]]))
    a    1
    bcd  2
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(indent + line for line in lines)
