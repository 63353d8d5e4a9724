"""What predict says of each image: JSON lines or a readable table, and why images failed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from napari_cellclf.cli.terminal import printable
from napari_cellclf.core.counting import counted, marks_in_words

if TYPE_CHECKING:
    from napari_cellclf.core.channels import ChannelSpec
    from napari_cellclf.core.predictions import Predictions


class Output(Protocol):
    """Anything that takes predictions as they come."""

    def write(self, predictions: Predictions) -> None:
        """Take some rows."""

    def write_bad(self, image: str, reason: str) -> None:
        """Take an image that could not be classified."""

    def finished(self, done: int) -> None:
        """Take note that so many images are finished, and none is begun."""


class JsonLines:
    """One JSON document a line on standard output, as the answers come."""

    def __init__(
        self, top_k: int, unsure_below: float | None = None, *, sets: bool = False
    ) -> None:
        self._top_k = top_k
        self._unsure_below = unsure_below
        self._sets = sets

    def write(self, predictions: Predictions) -> None:
        """Print rows."""
        sets = predictions.sets if self._sets else None
        for row in range(len(predictions)):
            document = self._document(predictions, row)
            if sets is not None:
                document["prediction_set"] = list(sets[row])
            print(json.dumps(document, allow_nan=False), flush=True)

    def write_bad(self, image: str, reason: str) -> None:
        """Print an image that has an ``error`` and no ``label``."""
        print(json.dumps({"image": image, "error": reason}), flush=True)

    def finished(self, done: int) -> None:
        """Take no notice; every line stands by itself."""

    def _document(self, predictions: Predictions, row: int) -> dict[str, Any]:
        top = predictions.top_k(self._top_k, row)
        probabilities = map(float, predictions.probabilities[row])
        return {
            "image": predictions.ids[row],
            "label": top[0][0],
            "confidence": top[0][1],
            **predictions.unsure_column(row, self._unsure_below),
            **{key: plain(value) for key, value in predictions.unlike_columns(row).items()},
            "remarks": list(predictions.remarks[row]),
            "top": [{"label": label, "probability": value} for label, value in top],
            "probabilities": dict(zip(predictions.classes, probabilities, strict=True)),
            "metadata": {key: plain(value) for key, value in predictions.metadata[row].items()},
        }


class Screen:
    """The most probable classes of each image, in columns on standard output."""

    def __init__(self, top_k: int, image_width: int, unsure_below: float | None = None) -> None:
        self._top_k = top_k
        self._unsure_below = unsure_below
        self._image_width = max(image_width, len("image"))
        self._begun = False

    def write(self, predictions: Predictions) -> None:
        """Print rows, below a heading the first time."""
        width = max(len(printable(name)) for name in predictions.classes)
        if not self._begun:
            self._begun = True
            ranks = range(1, min(self._top_k, len(predictions.classes)) + 1)
            heading = "  ".join(f"{f'{rank}.':{width + 8}}" for rank in ranks)
            print(f"{'image':{self._image_width}}  {heading}".rstrip())
        for row, image in enumerate(predictions.ids):
            best = predictions.top_k(self._top_k, row)
            cells = "  ".join(f"{printable(label):{width}} {value:7.1%}" for label, value in best)
            said = predictions.unsure_column(row, self._unsure_below)
            said |= predictions.unlike_columns(row)
            marks = [mark for mark in ("unsure", "unlike") if said.get(mark)]
            end = printable(", ".join([*marks, *predictions.remarks[row]]))
            print(f"{printable(image):{self._image_width}}  {cells}  {end}".rstrip(), flush=True)

    def write_bad(self, image: str, reason: str) -> None:
        """Take no notice; a line on standard error tells of it."""

    def finished(self, done: int) -> None:
        """Take no notice; every row stands by itself."""


def plain(value: Any) -> Any:
    """Return a value as JSON knows it.

    Examples
    --------
    >>> plain({"minute": float("nan"), "shape": (2, 3)})
    {'minute': None, 'shape': [2, 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


@dataclass
class Marked:
    """Counts images that are unlike anything in training, and those with remarks."""

    images: int = 0
    unlike: int = 0
    remarked: int = 0

    def add(self, predictions: Predictions) -> None:
        """Count rows."""
        self.images += len(predictions)
        self.unlike += 0 if predictions.unlike is None else int(predictions.unlike.sum())
        self.remarked += sum(map(bool, predictions.remarks))

    def text(self, noun: str) -> str:
        """Say in one line how many there are; empty if there is none."""
        return marks_in_words(self.unlike, self.remarked, self.images, noun)


Note = Callable[[str], None]


#: Images that fail each for a reason of its own and are told of, before the rest is only counted.
_MOST_TOLD = 10


@dataclass
class Failures:
    """Tells of the first image of each reason at once, and how many more there were at the end."""

    #: Takes one line for the user.
    note: Note
    _first: dict[str, str] = field(default_factory=dict)
    _more: dict[str, int] = field(default_factory=dict)
    _untold: int = 0
    #: What failed, in a word: an image, also of a model of objects if its mask cannot be used.
    noun: str = "image"

    def add(self, image: str, reason: str) -> None:
        """Tell of an image that could not be classified, if its reason is new."""
        if re.search(r"[\[,]object=\d+\]$", image):
            self.noun = "object"
        # What differs by the image's own name only is one reason.
        kind = reason.replace(image, "").replace(Path(image).name, "")
        if kind in self._first:
            self._more[kind] = self._more.get(kind, 0) + 1
            return
        if len(self._first) == _MOST_TOLD:
            self._untold += 1
            return
        self._first[kind] = image
        self.note(describe_failure(image, reason))

    def conclude(self) -> None:
        """Tell how many images failed for the same reasons as those that were named."""
        for kind, count in self._more.items():
            more = counted(count, f"more {self.noun}")
            self.note(f"... and {more} for the same reason as {self._first[kind]}")
        if self._untold:
            self.note(f"... and {counted(self._untold, f'more {self.noun}')} for other reasons")


def describe_failure(image: str, reason: str) -> str:
    """Put an image's name before a reason that does not name it."""
    folder = str(Path(image).parent)
    names_it = image in reason or (folder != "." and folder in reason)
    return reason if names_it else f"{image}: {reason}"


def describe_order(image: str, expected: Sequence[ChannelSpec]) -> str:
    """Say that an image's channels have no names and are taken in the order of its file."""
    from napari_cellclf.core.channels import order_warning

    warning = order_warning(expected, f"the channels of {image}")
    return f'{warning}; if that is wrong, say so with --channels "{expected[0].name}=2" ...'
