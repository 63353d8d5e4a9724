"""Goes through what is shown with the Tab key, for tests of its order."""

from __future__ import annotations

from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget


def tab_stops(inside: QWidget, first: QWidget) -> list[tuple[int, int]]:
    """Press Tab from one widget on to the last one; returns the middle and left of each stop."""
    first.setFocus()
    stops, seen = [], set()
    while (at := QApplication.focusWidget()) is not None and inside.isAncestorOf(at):
        if id(at) in seen:
            break
        seen.add(id(at))
        place = at.mapTo(inside, QPoint(0, 0))
        stops.append((place.y() + at.height() // 2, place.x()))
        QTest.keyClick(at, Qt.Key.Key_Tab)
    return stops
