"""Classes: what a data set names and a model predicts, their order, and their scale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_cellclf.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# "stage 07", "Stage(060)", "day_3", "12": a text that all labels share, and a number.
_NUMBERED = re.compile(r"(?P<text>.*?)(?P<number>\d+(?:\.\d+)?)[)\]]?", re.DOTALL)
_DIGITS = re.compile(r"(\d+)")
_LONGEST_NAME, _LONGEST_UNIT = 200, 40


class ClassSpec(BaseModel):
    """One class that a model can predict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What stands in tables, such as ``"HUVEC"`` or ``"060"``.
    name: str = Field(min_length=1, max_length=200)
    #: What people read, such as ``"endothelial cell (HUVEC)"``; empty means `name`.
    display_name: str = Field(default="", max_length=200)
    #: For ordered classes such as stages: where it lies on their scale, such as 60.
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    #: The unit of `value`, such as ``"minute"``.
    unit: str | None = Field(default=None, max_length=40)

    @property
    def title(self) -> str:
        """What people read."""
        return self.display_name or self.name


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
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DatasetError(
                f"the name of the class {name!a} is in an encoding that cannot be told; "
                "rename its folder, or save its table as UTF-8"
            )
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


@dataclass(frozen=True, eq=False)
class Scale:
    """Where each class lies: the scale of ordered classes, such as stages."""

    #: In `unit`.
    values: NDArray[np.float64]
    #: Such as ``"minute"``; empty if the classes do not say.
    unit: str

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Place of each class among the different values, from 0, shape (K,)."""
        return np.asarray(np.unique(self.values, return_inverse=True)[1], np.int64)

    def errors(
        self, truth: NDArray[np.integer], predicted: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return how far each prediction is off, in the scale's unit; shape (N,)."""
        return np.asarray(np.abs(self.values[truth] - self.values[predicted]))

    def steps(
        self, truth: NDArray[np.integer], predicted: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Return by how many classes each prediction is off; shape (N,)."""
        return np.asarray(np.abs(self.ranks[truth] - self.ranks[predicted]))


def scale_of(classes: Sequence[ClassSpec]) -> Scale | None:
    """Return the scale that classes lie on; None if they have no order.

    Examples
    --------
    >>> stages = [ClassSpec(name=f"{m:03}", value=m, unit="minute") for m in (51, 60, 69)]
    >>> scale = scale_of(stages)
    >>> scale.errors(np.array([0, 0]), np.array([1, 2])).tolist(), scale.unit
    ([9.0, 18.0], 'minute')
    """
    values = [one.value for one in classes if one.value is not None]
    units = {one.unit or "" for one in classes}
    if len(values) < len(classes) or len(units) > 1 or len(set(values)) < 2:
        return None
    return Scale(np.asarray(values, np.float64), units.pop())


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
