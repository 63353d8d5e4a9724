"""A longer text in a window of its own, beside the work and not before it."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import QDialog, QPlainTextEdit, QVBoxLayout, QWidget

_WIDTH, _HEIGHT = 760, 560


def show_text(parent: QWidget, title: str, text: str) -> QDialog:
    """Open a window with a text that can be selected and copied."""
    window = QDialog(parent)
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setWindowTitle(title)
    window.setModal(False)
    view = QPlainTextEdit(text)
    view.setReadOnly(True)
    view.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
    view.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
    QVBoxLayout(window).addWidget(view)
    window.resize(_WIDTH, _HEIGHT)
    window.show()
    return window
