"""Where predictions go on standard output: JSON lines, or a readable table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from napari_cellclf.cli.text import printable

if TYPE_CHECKING:
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

    def __init__(self, top_k: int, unsure_below: float | None = None) -> None:
        self._top_k = top_k
        self._unsure_below = unsure_below

    def write(self, predictions: Predictions) -> None:
        """Print rows."""
        for row in range(len(predictions)):
            print(json.dumps(self._document(predictions, row), allow_nan=False), flush=True)

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
        width = max(map(len, predictions.classes))
        if not self._begun:
            self._begun = True
            ranks = range(1, min(self._top_k, len(predictions.classes)) + 1)
            heading = "  ".join(f"{f'{rank}.':{width + 8}}" for rank in ranks)
            print(f"{'image':{self._image_width}}  {heading}".rstrip())
        for row, image in enumerate(predictions.ids):
            best = predictions.top_k(self._top_k, row)
            cells = "  ".join(f"{label:{width}} {value:7.1%}" for label, value in best)
            unsure = any(predictions.unsure_column(row, self._unsure_below).values())
            end = "  unsure" if unsure else ""
            print(f"{printable(image):{self._image_width}}  {cells}{end}", flush=True)

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
