"""The part of the form that is about objects: a legend, their colours, and whether they changed."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.plugin.shared.controls import MessageLine, NameLabel, plain_label

_SWATCH = 12


class ObjectsView(QWidget):
    """How many objects each class has and in which colour, and what to do about changed ones."""

    #: The classes' colours are wanted, or those that the layer had before.
    colours_wanted = Signal(bool)
    #: The objects are to be classified again.
    again_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.legend = Legend()
        self.by_class = QCheckBox("Colour objects by class")
        self.by_class.setChecked(True)
        self.by_class.setToolTip("Without it, the layer has the colours that it had before.")
        self.by_class.clicked.connect(self.colours_wanted)
        self.changed = MessageLine()
        self.again = QPushButton("Classify again")
        self.again.clicked.connect(self._on_again)
        row = QHBoxLayout()
        row.addWidget(self.changed, 1)
        row.addWidget(self.again)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.legend)
        column.addWidget(self.by_class)
        self.show_changed("")

    def show_counts(self, counts: Sequence[tuple[str, int]], n_classes: int) -> None:
        """Show how many objects each class has; what comes behind the classes has no colour."""
        self.legend.show_counts(counts, class_colours(n_classes))

    def show_changed(self, text: str) -> None:
        """Say that objects were changed since; an empty text hides it."""
        self.changed.say(text, wrong=True)
        self.again.setVisible(bool(text))

    def _on_again(self) -> None:
        self.again_wanted.emit()


class Legend(QWidget):
    """A coloured square, a name and a number for each class."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._rows: list[tuple[QLabel, NameLabel, QLabel]] = []

    def show_counts(self, counts: Sequence[tuple[str, int]], colours: Sequence[str]) -> None:
        """Show names and numbers."""
        while len(self._rows) < len(counts):
            self._add_row()
        for number, widgets in enumerate(self._rows):
            for widget in widgets:
                widget.setVisible(number < len(counts))
        for number, (name, count) in enumerate(counts):
            swatch, label, value = self._rows[number]
            swatch.setPixmap(_square(colours[number] if number < len(colours) else "#00000000"))
            label.setText(name)
            value.setText(f"{count:,}")

    def texts(self) -> list[tuple[str, str]]:
        """Return what is shown: name and number of each row."""
        return [
            (label.text(), value.text()) for _, label, value in self._rows if not label.isHidden()
        ]

    def _add_row(self) -> None:
        swatch, label, value = plain_label(), NameLabel(), plain_label()
        value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, widget in enumerate((swatch, label, value)):
            self._grid.addWidget(widget, len(self._rows), column)
        self._rows.append((swatch, label, value))


def _square(colour: str) -> QPixmap:
    square = QPixmap(_SWATCH, _SWATCH)
    square.fill(QColor(colour))
    return square
