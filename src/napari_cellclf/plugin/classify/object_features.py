"""Predictions of objects as the features table and the colours of a layer: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.core.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: The column by which napari finds the row of a label.
INDEX = "index"
#: RGBA of objects without a prediction.
NO_PREDICTION = (0.5, 0.5, 0.5, 0.35)
#: How opaque an unsure object is, beside 1 for a sure one.
UNSURE_OPACITY = 0.4

#: Indices along the leading axes of an image; empty for a single plane.
Position = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ObjectPredictions:
    """Predictions of the objects of a layer, and where each object is."""

    predictions: Predictions
    #: For each row the plane that the object is on, and its number there.
    positions: tuple[Position, ...]
    numbers: NDArray[np.int64]
    #: Whether each row is below the model's threshold; None where it has none.
    unsure: NDArray[np.bool_] | None = None
    #: Names of the leading axes, such as ``("t",)``.
    axes: tuple[str, ...] = ()
    _rows: dict[tuple[Position, int], int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        places = zip(self.positions, self.numbers.tolist(), strict=True)
        object.__setattr__(self, "_rows", {place: row for row, place in enumerate(places)})

    @property
    def numbers_repeat(self) -> bool:
        """Whether one number stands for objects on several planes."""
        return len(set(self.numbers.tolist())) < len(self.numbers)

    def row(self, position: Position, number: int) -> int | None:
        """Return the row of an object."""
        return self._rows.get((position, number))

    def rows_on(self, position: Position | None) -> NDArray[np.intp]:
        """Return the rows of a plane; all rows for None."""
        if position is None:
            return np.arange(len(self.numbers))
        return np.flatnonzero([place == position for place in self.positions])

    def columns(self) -> dict[str, Any]:
        """Return the columns that are written, in the order in which napari shows them."""
        known = self.predictions
        columns: dict[str, Any] = {"class": list(known.labels), "confidence": known.confidences}
        if self.unsure is not None:
            columns["unsure"] = self.unsure
        if known.unlike is not None:
            columns |= {"unlike": known.unlike, "unlike_score": known.unlike_scores}
        return columns | {
            f"p_{name}": known.probabilities[:, number] for number, name in enumerate(known.classes)
        }

    def colours(self) -> NDArray[np.float32]:
        """Return the colour of each row, RGBA from 0 to 1; doubtful ones let the image through."""
        palette = np.array(
            [_rgba(colour) for colour in class_colours(len(self.predictions.classes))], np.float32
        )
        chosen: NDArray[np.float32] = palette[self.predictions.probabilities.argmax(axis=1)]
        for doubtful in (self.unsure, self.predictions.unlike):
            if doubtful is not None:
                chosen[doubtful, 3] = UNSURE_OPACITY
        return chosen


def counts(found: ObjectPredictions, position: Position | None = None) -> list[tuple[str, int]]:
    """Count the objects of each class, in order; unsure and unlike ones apart, at the end.

    `position`: of one plane only.
    """
    rows = found.rows_on(position)
    classes = found.predictions.classes
    chosen = found.predictions.probabilities[rows].argmax(axis=1)
    known = found.predictions.unlike
    unlike = np.zeros(len(rows), bool) if known is None else known[rows]
    unsure = np.zeros(len(rows), bool) if found.unsure is None else found.unsure[rows] & ~unlike
    counted = np.bincount(chosen[~unsure & ~unlike], minlength=len(classes))
    apart = [] if found.unsure is None else [("unsure", int(unsure.sum()))]
    apart += [] if known is None else [("unlike", int(unlike.sum()))]
    return [*zip(classes, counted.tolist(), strict=True), *apart]


def labels_features(
    known: pd.DataFrame, written: Sequence[str], found: ObjectPredictions
) -> tuple[pd.DataFrame, list[str]]:
    """Join predictions to the features of a Labels layer by the label number.

    The user's own columns and rows stay; `written` names the columns that were written before and
    are replaced. Returns the table and the names of the columns written.
    """
    import pandas as pd

    own = known.drop(columns=[name for name in written if name in known])
    columns = _renamed(found.columns(), own)
    ours = pd.DataFrame(_along_axes(found) | {INDEX: found.numbers} | columns)
    if INDEX not in own and own.shape[1]:
        # napari then takes the row number for the label.
        own.insert(0, INDEX, np.arange(len(own)))
    on = [INDEX, *(axis for axis in found.axes if axis in own)]
    kept = [name for name in own if name not in on]
    if not kept:
        return ours, [str(name) for name in ours]
    # Rows that only an earlier prediction had made.
    own = own.dropna(how="all", subset=kept)
    joined = ours.merge(own, how="outer", on=on, sort=True)
    names = [*on, *(name for name in ours if name not in on), *kept]
    return joined[names], [str(name) for name in ours if name not in on]


def plane_last(table: pd.DataFrame, axes: Sequence[str], position: Position) -> pd.DataFrame:
    """Put the rows of a plane last: of several rows for one label, napari shows the last."""
    import pandas as pd

    there = np.ones(len(table), bool)
    for axis, step in zip(axes, position, strict=True):
        there &= (table[axis] == step).to_numpy(bool)
    return pd.concat([table[~there], table[there]], ignore_index=True)


def rows_features(
    known: pd.DataFrame,
    written: Sequence[str],
    found: ObjectPredictions,
    position: Position | None,
    n_rows: int,
) -> tuple[pd.DataFrame, list[str]]:
    """Join predictions to the features of a Points or Shapes layer, which has a row an object.

    `position`: the plane whose predictions are shown where one object is on several planes.
    """
    import pandas as pd

    own = known.drop(columns=[name for name in written if name in known])
    columns = _renamed(found.columns(), own)
    rows = found.rows_on(position if found.numbers_repeat else None)
    at = found.numbers[rows] - 1
    fits = (at >= 0) & (at < n_rows)
    ours = pd.DataFrame(columns).iloc[rows[fits]].set_axis(at[fits], axis=0)
    return pd.concat([ours.reindex(range(n_rows)), own], axis=1), list(columns)


def colours_by_label(
    found: ObjectPredictions, position: Position | None
) -> dict[int | None, NDArray[np.float32]]:
    """Return the colour of each label for napari's direct colormap.

    `position`: the plane that is looked at, where one number stands for objects on several.
    """
    rows = found.rows_on(position if found.numbers_repeat else None)
    colours = found.colours()[rows]
    chosen: dict[int | None, NDArray[np.float32]] = dict(
        zip(found.numbers[rows].tolist(), colours, strict=True)
    )
    return chosen | {0: np.zeros(4, np.float32), None: np.array(NO_PREDICTION, np.float32)}


def _renamed(columns: dict[str, Any], own: pd.DataFrame) -> dict[str, Any]:
    """Give columns other names where the user has those already, as for known classes."""
    return {(f"predicted_{name}" if name in own else name): c for name, c in columns.items()}


def _along_axes(found: ObjectPredictions) -> dict[str, Any]:
    return {
        axis: [position[number] for position in found.positions]
        for number, axis in enumerate(found.axes)
    }


def _rgba(colour: str) -> tuple[float, ...]:
    return *(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)), 1.0
