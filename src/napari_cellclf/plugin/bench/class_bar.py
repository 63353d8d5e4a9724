"""The bar of classes: a button each with its key, colour and count, which takes dragged rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QContextMenuEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QIcon,
    QKeyEvent,
    QPainter,
    QPixmap,
    QResizeEvent,
)
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.gallery.gallery_model import ROWS_MIME
from napari_cellclf.plugin.gallery.keys import N_CLASS_KEYS
from napari_cellclf.plugin.shared.controls import VerticalScrollArea, plain_hint, shortened

_BUTTON_WIDTH = 108
#: Of buttons above each other, before they scroll.
_MOST_LINES = 5
_SWATCH = 12


class ClassBar(QWidget):
    """Buttons of the classes, and a line to type the name of a new or renamed one."""

    #: A class was clicked, or named in a menu: label with it.
    chosen = Signal(str)
    #: Rows were dropped on a class; carries their numbers and the class.
    dropped = Signal(object, str)
    #: A name was typed for a new class.
    added = Signal(str)
    #: Carries the old and the new name.
    renamed = Signal(str, str)
    #: Carries the class that goes and the one that takes its labels.
    merged = Signal(str, str)
    removed = Signal(str)
    #: Only the rows of a class are wanted.
    shown = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._names: tuple[str, ...] = ()
        self._keys: Sequence[str] = [str(number + 1) for number in range(N_CLASS_KEYS)]
        self._buttons: list[_ClassButton] = []
        self._across = 0
        self.add = QPushButton("+ Class", self)
        self.add.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.add.setToolTip("Add a class")
        self.add.clicked.connect(self.ask_for_class)
        self.name = _NameLine()
        self.name.typed.connect(self._on_typed)
        self.name.ended.connect(self._end_typing)
        self._renaming = ""
        self._inner = QWidget()
        self._grid = QGridLayout(self._inner)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(3)
        self._area = _Lines()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(VerticalScrollArea.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setWidget(self._inner)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self._area)
        column.addWidget(self.name)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._end_typing()

    def show_classes(self, names: Sequence[str], counts: Sequence[int]) -> None:
        """Show classes with how many labels each has."""
        if tuple(names) != self._names:
            self._names = tuple(names)
            self._make_buttons()
        for button, count in zip(self._buttons, counts, strict=True):
            button.show_count(count)

    def show_keys(self, keys: Sequence[str]) -> None:
        """Show other keys of the first classes."""
        self._keys = keys
        for button, key in zip(self._buttons, keys, strict=False):
            button.show_key(key)

    def ask_for_class(self) -> None:
        """Let the user type the name of a new class."""
        self._renaming = ""
        self.name.ask("", "Name of the class", "Add")

    def ask_for_name(self, old: str) -> None:
        """Let the user type another name of a class."""
        self._renaming = old
        self.name.ask(old, f"New name of {shortened(old)}", "Rename")

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Put as many buttons beside each other as there is room for."""
        super().resizeEvent(event)
        self._arrange()

    def _make_buttons(self) -> None:
        for button in self._buttons:
            self._grid.removeWidget(button)
            button.hide()
            button.deleteLater()
        colours, menu = class_colours(len(self._names)), self._menu_of
        self._buttons = [
            _ClassButton(name, colours[number], "".join(self._keys[number : number + 1]), menu)
            for number, name in enumerate(self._names)
        ]
        for button in self._buttons:
            button.clicked.connect(partial(self.chosen.emit, button.name))
            button.dropped.connect(self.dropped)
        self._across = 0
        self._arrange()

    def _arrange(self) -> None:
        across = max(2, self.width() // _BUTTON_WIDTH)
        if across == self._across:
            return
        self._across = across
        widgets = [*self._buttons, self.add]
        for at, widget in enumerate(widgets):
            self._grid.addWidget(widget, *divmod(at, across))
        for column in range(self._grid.columnCount()):
            self._grid.setColumnStretch(column, int(column < across))
        self._grid.activate()
        self._area.updateGeometry()

    def _menu_of(self, name: str) -> QMenu:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Show only these", partial(self.shown.emit, name))
        menu.addAction("Rename…", partial(self.ask_for_name, name))
        below = QMenu("Merge into", menu)
        for other in self._names:
            if other != name:
                below.addAction(
                    shortened(other, 40).replace("&", "&&"), partial(self.merged.emit, name, other)
                )
        menu.addMenu(below)
        menu.addAction("Remove class and its labels", partial(self.removed.emit, name))
        return menu

    def _on_typed(self, text: str) -> None:
        if self._renaming:
            self.renamed.emit(self._renaming, text)
        else:
            self.added.emit(text)

    def _end_typing(self) -> None:
        self._renaming = ""
        self.name.hide()


class _Lines(VerticalScrollArea):
    """As high as the buttons, up to some lines of them."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Ask for the height of the buttons."""
        inner = self.widget()
        if inner is None:
            return super().sizeHint()
        most = _MOST_LINES * 2 * self.fontMetrics().height()
        whole = inner.sizeHint().expandedTo(inner.minimumSizeHint()).height()
        return QSize(2 * _BUTTON_WIDTH, min(whole + 2, most))

    def minimumSizeHint(self) -> QSize:
        """Ask for the same height at the least."""
        return self.sizeHint()


class _ClassButton(QPushButton):
    """A class: click labels the selection, a drop labels what is dropped."""

    dropped = Signal(object, str)

    def __init__(self, name: str, colour: str, key: str, menu: Callable[[str], QMenu]) -> None:
        super().__init__()
        self.name = name
        self._key = key
        self._count = -1
        self._menu_of = menu
        self.setAcceptDrops(True)
        # The next key is meant for the tiles.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setIcon(_swatch(colour))
        self.setIconSize(QSize(_SWATCH, _SWATCH))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setStyleSheet("text-align: left; padding-left: 4px; padding-right: 2px;")

    def show_key(self, key: str) -> None:
        """Show another key."""
        self._key = key
        self._write()

    def show_count(self, count: int) -> None:
        """Show how many labels there are."""
        if count != self._count:
            self._count = count
            self._write()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten the name to the room that there is."""
        super().resizeEvent(event)
        self._write()

    def contextMenuEvent(self, event: QContextMenuEvent | None) -> None:
        """Offer to rename, merge or remove the class."""
        if event is not None:
            self._menu_of(self.name).popup(event.globalPos())

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take rows."""
        carried = None if event is None else event.mimeData()
        if event is not None and carried is not None and carried.hasFormat(ROWS_MIME):
            event.acceptProposedAction()
            self.setDown(True)

    def dragLeaveEvent(self, event: QDragLeaveEvent | None) -> None:
        """Look as before."""
        self.setDown(False)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Label what was dropped."""
        self.setDown(False)
        carried = None if event is None else event.mimeData()
        if event is None or carried is None:
            return
        event.acceptProposedAction()
        numbers = bytes(carried.data(ROWS_MIME).data()).split()
        self.dropped.emit(tuple(map(int, numbers)), self.name)

    def _write(self) -> None:
        key = f"{self._key} " if self._key else ""
        count = f"  {self._count:,}"
        metrics = self.fontMetrics()
        room = self.width() - _SWATCH - 12 - metrics.horizontalAdvance(key + count)
        name = metrics.elidedText(self.name, Qt.TextElideMode.ElideMiddle, max(room, 20))
        self.setText(f"{key}{name}{count}".replace("&", "&&"))
        press = f"Key {self._key}, click or drop" if key else "Click or drop"
        self.setToolTip(
            plain_hint(f"{self.name}: {counted(self._count, 'label')}. {press} to label.")
        )


class _NameLine(QWidget):
    """A line to type a name in; Enter confirms it, Escape gives up."""

    typed = Signal(str)
    ended = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.line = _Line()
        self.confirm = QPushButton()
        self.line.returnPressed.connect(self._on_confirm)
        self.line.given_up.connect(self.ended)
        self.confirm.clicked.connect(self._on_confirm)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.confirm)

    def ask(self, text: str, hint: str, confirm: str) -> None:
        """Show the line."""
        self.line.setPlaceholderText(hint)
        self.line.setText(text)
        self.line.selectAll()
        self.confirm.setText(confirm)
        self.show()
        self.line.setFocus()

    def _on_confirm(self) -> None:
        text = self.line.text().strip()
        if text:
            self.typed.emit(text)


class _Line(QLineEdit):
    given_up = Signal()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Give up with Escape."""
        if event is not None and event.key() == Qt.Key.Key_Escape:
            self.given_up.emit()
        else:
            super().keyPressEvent(event)


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawRoundedRect(0, 0, _SWATCH, _SWATCH, 3, 3)
    painter.end()
    return QIcon(pixmap)
