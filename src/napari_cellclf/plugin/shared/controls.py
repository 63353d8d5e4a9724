"""Small parts that docks and forms are made of."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from itertools import pairwise

from qtpy.QtCore import QEvent, QSize, Qt, QUrl, Signal
from qtpy.QtGui import (
    QColor,
    QContextMenuEvent,
    QFocusEvent,
    QFontDatabase,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QTextDocument,
)
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

#: Colours of the parts of a split, wherever they are drawn.
TRAIN = QColor("#3f8fd9")
VALIDATION = QColor("#e8912d")
TEST = QColor("#4fa868")
PARTS = (TRAIN, VALIDATION, TEST)
WARNING = "#e05252"


#: A place to break a line that nobody sees.
_BREAK = "\u200b"
_LONG_WORD = re.compile(r"\S{20,}")
_PIECE = re.compile(r"([/\\_.,:;=&?-]+|\w{12})(?=\S)")


def _breakable(text: str) -> str:
    """Let long words, such as paths, go on in the next line."""
    return _LONG_WORD.sub(lambda word: _PIECE.sub(rf"\1{_BREAK}", word[0]), text)


class WrappedLabel(QLabel):
    """A plain text that never asks for more width than there is, whatever stands in it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)

    def setText(self, text: str | None) -> None:
        """Show a text."""
        self._whole = text or ""
        plain = self.textFormat() == Qt.TextFormat.PlainText
        super().setText(_breakable(self._whole) if plain else self._whole)

    def text(self) -> str:
        """Return the text as it was given."""
        return self._whole

    def copy(self) -> None:
        """Copy what is selected, or all of it, as it was given."""
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.selectedText().replace(_BREAK, "") or self._whole)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Copy without the places where lines may break."""
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent | None) -> None:
        """Offer to copy."""
        if event is not None:
            menu = QMenu(self)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.addAction("Copy", self.copy)
            menu.popup(event.globalPos())


class NameLabel(QLabel):
    """A name that makes no row wider than is useful; its tool tip shows all of it."""

    def __init__(self, name: str = "", most: int = 24) -> None:
        super().__init__()
        self._most = most
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(name)

    def setText(self, text: str | None) -> None:
        """Show a name."""
        self._whole = text or ""
        super().setText(shortened(self._whole, self._most))
        self.setToolTip(plain_hint(self._whole))

    def text(self) -> str:
        """Return the whole name."""
        return self._whole


class MessageLine(QWidget):
    """One line that says how things stand, with a sign beside it when something is wrong."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sign = QLabel()
        style = self.style()
        if style is not None:
            icon = style.standardIcon(QStyle.StandardPixmap.SP_MessageBoxWarning)
            self._sign.setPixmap(icon.pixmap(16, 16))
        self._sign.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._text = WrappedLabel()
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._sign)
        row.addWidget(self._text, 1)
        self.say("")

    def say(self, text: str, *, wrong: bool = False) -> None:
        """Show a sentence."""
        self._text.setText(text)
        self._sign.setVisible(wrong)
        self.setVisible(bool(text))

    def text(self) -> str:
        """Return the sentence."""
        return self._text.text()

    def is_wrong(self) -> bool:
        """Whether it tells of something wrong."""
        return not self._sign.isHidden()


class CommandLine(QWidget):
    """The command that does the same, to be copied."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = QLineEdit()
        self._line.setReadOnly(True)
        self._button = QPushButton("Copy")
        self._button.clicked.connect(self._copy)
        row = QHBoxLayout()
        row.addWidget(self._line, 1)
        row.addWidget(self._button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(QLabel("The same from a terminal"))
        column.addLayout(row)
        self.show_command("")

    def show_command(self, command: str) -> None:
        """Show a command; an empty one hides the line."""
        self._line.setText(command)
        self._line.setCursorPosition(0)
        self._line.setToolTip(plain_hint(command))
        self.setVisible(bool(command))

    def text(self) -> str:
        """Return the command."""
        return str(self._line.text())

    @property
    def tab_stops(self) -> list[QWidget]:
        """What the Tab key goes through, from the left."""
        return [self._line, self._button]

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text())


class VerticalScrollArea(QScrollArea):
    """Scrolls up and down only: as wide as what is in it needs, with the scroll bar beside."""

    def minimumSizeHint(self) -> QSize:
        """Leave room for the contents and the scroll bar."""
        inner, bar = self.widget(), self.verticalScrollBar()
        hint = super().minimumSizeHint()
        if inner is None or bar is None:
            return hint
        return QSize(inner.minimumSizeHint().width() + bar.sizeHint().width(), hint.height())

    def event(self, event: QEvent | None) -> bool:
        """Ask for space again when the contents need another width or height."""
        handled = bool(super().event(event))
        kind = None if event is None else event.type()
        if kind == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        if kind in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            self._make_room_for_lines()
        return handled

    def _make_room_for_lines(self) -> None:
        """Give the contents the height that they need at this width.

        Qt itself only heeds how high they are at the width they would like best, and labels whose
        lines break where there is less are cut off.
        """
        inner, port = self.widget(), self.viewport()
        if inner is None or port is None or not inner.hasHeightForWidth():
            return
        needed = inner.heightForWidth(port.width())
        if needed != inner.minimumHeight():
            inner.setMinimumHeight(needed)


def fill_with_scroll_area(
    outer: QWidget, inner: QWidget, footer: QWidget | None = None
) -> VerticalScrollArea:
    """Let a widget show another one that may be higher than it, above what always stays in view."""
    area = VerticalScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inner)
    column = QVBoxLayout(outer)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    column.addWidget(area, 1)
    if footer is not None:
        column.addWidget(footer)
    # napari leaves the rest of the dock empty below widgets that do not ask for it.
    outer.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
    return area


class Footer(QWidget):
    """What stays in view below a page: a message, its buttons, and how far the work is.

    `buttons`: the first is what the page is for, and as wide as the others together.
    """

    def __init__(
        self,
        message: MessageLine,
        buttons: Sequence[QPushButton],
        progress: QProgressBar,
        *below: QWidget,
    ) -> None:
        super().__init__()
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        row = QHBoxLayout()
        for number, button in enumerate(buttons):
            row.addWidget(button, 1 if number else max(1, len(buttons) - 1))
        progress.setTextVisible(False)
        progress.setFixedHeight(8)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 0, 6, 6)
        column.setSpacing(4)
        column.addWidget(line)
        column.addWidget(message)
        column.addLayout(row)
        for widget in (progress, *below):
            column.addWidget(widget)


def plain_label(text: str = "") -> QLabel:
    """Make a label whose text is shown as it is.

    Qt takes a text with tags for HTML otherwise, and would load an image that the name of a class
    asks for, from a network share, too.
    """
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setText(text)
    return label


def plain_hint(text: str) -> str:
    """Return a text for a tool tip, which has no other way to be shown as it is."""
    return html.escape(text, quote=False) if "<" in text else text


def shortened(name: str, most: int = 24) -> str:
    """Leave out the middle of a name that would make a button or a row too wide."""
    end = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def small_label() -> WrappedLabel:
    """Make a plain label in slightly smaller letters that breaks its lines."""
    label = WrappedLabel()
    font = label.font()
    font.setPointSizeF(font.pointSizeF() * 0.9)
    label.setFont(font)
    return label


def tab_in_order(before: QWidget, widgets: Sequence[QWidget]) -> None:
    """Let the Tab key go from one widget to others that were made later than those behind it."""
    anchor: QWidget | None = before
    while anchor is not None and anchor.focusPolicy() == Qt.FocusPolicy.NoFocus:
        anchor = anchor.previousInFocusChain()
        if anchor is before:
            return
    if anchor is not None:
        tab_downwards([anchor, *widgets])


def tab_downwards(widgets: Sequence[QWidget]) -> None:
    """Let the Tab key go through widgets of one window in an order."""
    for first, second in pairwise(widgets):
        QWidget.setTabOrder(first, second)


def wide_combo(hint: str) -> QComboBox:
    """Make a combo box that is as wide as there is room, whatever its items are."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(14)
    box.setToolTip(hint)
    return box


class KeysPage(QWidget):
    """Whatever is clicked on it, the next key is meant for one part of it.

    Qt's focus proxy would keep the Tab key from what comes before that part.
    """

    def takes_keys(self) -> QWidget | None:
        """Return the part that the keys are meant for; to be extended."""
        return None

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Hand the focus on."""
        super().focusInEvent(event)
        part = self.takes_keys()
        if part is not None:
            part.setFocus()


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

    @property
    def heading(self) -> QToolButton:
        """The button that folds and unfolds it."""
        return self._header

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


_WIDTH, _HEIGHT = 760, 560


class _Page(QTextBrowser):
    """Formatted text that loads nothing and leads nowhere, whoever wrote it."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.setOpenLinks(False)
        document = self.document()
        if document is not None:
            features = QTextDocument.MarkdownFeature
            document.setMarkdown(markdown, features.MarkdownDialectGitHub | features.MarkdownNoHTML)

    def loadResource(self, kind: int, name: QUrl) -> None:
        """Load no image of a text."""


def show_page(parent: QWidget, title: str, markdown: str) -> QDialog:
    """Open a window with a formatted text."""
    return _show_window(parent, title, _Page(markdown))


def show_text(parent: QWidget, title: str, text: str) -> QDialog:
    """Open a window with a text in columns that can be selected and copied."""
    view = QPlainTextEdit(text)
    view.setReadOnly(True)
    view.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
    view.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
    return _show_window(parent, title, view)


def _show_window(parent: QWidget, title: str, view: QWidget) -> QDialog:
    window = QDialog(parent)
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setWindowTitle(title)
    window.setModal(False)
    QVBoxLayout(window).addWidget(view)
    window.resize(_WIDTH, _HEIGHT)
    window.show()
    return window


class DockedWidget(QWidget):
    """The base of all dock widgets: lets go of everything when its dock is closed for good."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._docked = False

    def shut_down(self) -> None:
        """Stop working and let go of the viewer; to be extended."""

    def event(self, event: QEvent | None) -> bool:
        """Notice being docked, and being taken out of the dock for good."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.shut_down()
                self.deleteLater()
        return bool(super().event(event))
