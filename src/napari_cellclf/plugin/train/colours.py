"""The colours of the three parts of a split, alike in tables and curves, on dark and on light."""

from __future__ import annotations

from qtpy.QtGui import QColor

TRAIN = QColor("#3f8fd9")
VALIDATION = QColor("#e8912d")
TEST = QColor("#4fa868")
PARTS = (TRAIN, VALIDATION, TEST)
WARNING = "#e05252"
