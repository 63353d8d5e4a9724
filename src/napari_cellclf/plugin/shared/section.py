"""A part of a form under a heading that folds it away."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_cellclf.plugin.shared.controls import plain_hint, plain_label


class Section(QWidget):
    """A heading, a few words beside it that stay when the rest is folded, and the rest."""

    #: It was unfolded, or folded away.
    unfolded = Signal(bool)

    def __init__(self, title: str, content: QWidget, *, open: bool = True) -> None:
        super().__init__()
        self._title = title
        self.content = content
        self._header = QToolButton()
        self._header.setCheckable(True)
        self._header.setAutoRaise(True)
        self._header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        font = self._header.font()
        font.setBold(True)
        self._header.setFont(font)
        self._header.toggled.connect(self.unfold)
        self._words = ""
        self._summary = plain_label()
        self._summary.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._header)
        row.addWidget(self._summary, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addWidget(content)
        self.unfold(open)

    def unfold(self, wide: bool) -> None:
        """Show all of it, or the heading only."""
        self._header.setChecked(wide)
        self.content.setVisible(wide)
        self._header.setText(f"{'▼' if wide else '▶'}  {self._title}")
        # Left in its place, where it keeps the heading on the left.
        self._summary.setText("" if wide else self._words)
        self.unfolded.emit(wide)

    def is_unfolded(self) -> bool:
        """Whether all of it is shown."""
        return bool(self._header.isChecked())

    def summarise(self, text: str) -> None:
        """Say in a few words what is folded away."""
        self._words = text
        self._summary.setText("" if self.is_unfolded() else text)
        self._summary.setToolTip(plain_hint(text))
