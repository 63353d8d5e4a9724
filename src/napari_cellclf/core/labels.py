"""Classes made of the labels that people write: their order, and where they lie on a scale."""

from __future__ import annotations

import re
from collections.abc import Iterable

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.errors import DatasetError

# "stage 07", "Stage(060)", "day_3", "12": a text that all labels share, and a number.
_NUMBERED = re.compile(r"(?P<text>.*?)(?P<number>\d+(?:\.\d+)?)[)\]]?", re.DOTALL)
_DIGITS = re.compile(r"(\d+)")
_LONGEST_NAME, _LONGEST_UNIT = 200, 40


def make_classes(labels: Iterable[str], *, may_be_ordered: bool = True) -> tuple[ClassSpec, ...]:
    """Make the classes of a data set from its labels.

    Examples
    --------
    >>> [(c.name, c.value, c.unit) for c in make_classes(["stage 10", "stage 2"])]
    [('stage 2', 2.0, 'stage'), ('stage 10', 10.0, 'stage')]
    >>> [(c.name, c.value) for c in make_classes(["RPE", "HUVEC"])]
    [('HUVEC', None), ('RPE', None)]
    """
    names = sorted(set(labels), key=natural_key)
    for name in names:
        if not 0 < len(name) <= _LONGEST_NAME:
            raise DatasetError(
                f"the label {name[:40]!r} has {len(name)} characters; give every image a label of "
                f"1 to {_LONGEST_NAME}"
            )
    values = _values(names) if may_be_ordered else None
    if values is None:
        return tuple(ClassSpec(name=name) for name in names)
    numbers, unit = values
    specs = [
        ClassSpec(name=name, value=value, unit=unit)
        for name, value in zip(names, numbers, strict=True)
    ]
    return tuple(sorted(specs, key=lambda spec: spec.value or 0.0))


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts numbers inside text by their size.

    Examples
    --------
    >>> sorted(["t10", "t9", "T1"], key=natural_key)
    ['T1', 't9', 't10']
    """
    parts = (
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.casefold())
        for part in _DIGITS.split(text)
    )
    # The text itself decides between names that differ in case or in leading zeros only.
    return (*parts, (2, 0, text))


def _values(names: list[str]) -> tuple[list[float], str | None] | None:
    """Read the numbers of names that lie on one scale, and its unit; None if they do not."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    texts = {match["text"] if match else None for match in matches}
    if len(names) < 2 or None in texts or len(texts) > 1:
        return None
    numbers = [float(match["number"]) for match in matches if match]
    if len(set(numbers)) < len(numbers):
        return None
    unit = (texts.pop() or "").strip(" _-([.:")
    return (numbers, unit or None) if len(unit) <= _LONGEST_UNIT else None
