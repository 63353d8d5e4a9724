"""Keeps Python's full searches for garbage from holding up the window."""

from __future__ import annotations

import gc
from typing import ClassVar

_FACTOR = 100


class RareSearches:
    """Makes Python's full searches for garbage a hundred times rarer until `end`.

    One goes through the 300,000 to 500,000 objects of napari and of imported modules, 0.2 to 0.4 s
    in which no thread can run, and thousands of rows that are opened or predicted set it off.
    Searches among recent objects go on as before, and napari makes a full one whenever a layer is
    removed.
    """

    _running: ClassVar[set[RareSearches]] = set()

    def __init__(self) -> None:
        young, middle, old = gc.get_threshold()
        if not self._running:
            gc.set_threshold(young, middle, old * _FACTOR)
        self._running.add(self)

    def end(self) -> None:
        """Search as often as before, unless another dock is open."""
        if self not in self._running:
            return
        self._running.discard(self)
        young, middle, old = gc.get_threshold()
        if not self._running:
            gc.set_threshold(young, middle, old // _FACTOR)
