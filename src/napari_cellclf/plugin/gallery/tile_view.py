"""The view of a gallery: tiles in rows, each a thumbnail with what is known of it."""

from __future__ import annotations

from qtpy.QtCore import (
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import (
    QColor,
    QContextMenuEvent,
    QDrag,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygon,
    QRegion,
    QResizeEvent,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from napari_cellclf.plugin.gallery.gallery_model import GalleryModel, Tile
from napari_cellclf.plugin.gallery.thumbnails import ThumbnailLoader
from napari_cellclf.plugin.shared.controls import plain_label

#: Of a thumbnail in pixels, unless the user chooses another one.
SIDE = 92
_FRAME, _GAP = 3, 3
_EMPTY = QColor(128, 128, 128, 60)
_UNSURE, _UNLIKE = QColor("#e8b92d"), QColor("#e05252")


class TileView(QAbstractItemView):
    """Tiles in rows, as many beside each other as there is room for.

    Where a tile is follows from its place alone: Qt's own list view asks Python for every one of
    100,000 rows each time that they are sorted.
    """

    row_chosen = Signal(int)
    row_activated = Signal(int)
    selected = Signal()
    #: Carries where on the screen.
    menu_wanted = Signal(object)

    def __init__(self, rows: GalleryModel, loader: ThumbnailLoader) -> None:
        super().__init__()
        self._rows = rows
        self._following = False
        self._hint = plain_label()
        self._tiles = _TileDelegate(rows, loader, self)
        self.setModel(rows)
        self.setItemDelegate(self._tiles)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # Otherwise a bar that comes and goes changes how many tiles are beside each other.
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setDragEnabled(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragOnly)
        self.setTabKeyNavigation(False)
        self.setMinimumHeight(SIDE + 40)
        self._set_up_hint()
        self.doubleClicked.connect(self._on_activated)
        model = self.selectionModel()
        if model is not None:
            model.currentChanged.connect(self._on_current)
            model.selectionChanged.connect(lambda *changed: self.selected.emit())

    def following(self) -> _Following:
        """Return what keeps changes of the current row from being told while it is entered."""
        return _Following(self)

    def set_side(self, side: int) -> None:
        """Draw thumbnails of another size; the current one stays on the screen."""
        self._tiles.side = side
        self.updateGeometries()
        self.scrollTo(self.currentIndex())
        self.repaint_tiles()

    def set_hint(self, text: str) -> None:
        """Say in the middle what to do where there are no tiles."""
        self._hint.setText(text)
        self._hint.setVisible(bool(text))

    def repaint_tiles(self) -> None:
        """Draw what is on the screen again."""
        self._port.update()

    def selected_places(self) -> list[int]:
        """Return the places of the selected tiles, in order."""
        model = self.selectionModel()
        if model is None:
            return []
        chosen = model.selection()
        ranges = [chosen[at] for at in range(len(chosen))]
        return sorted(place for one in ranges for place in range(one.top(), one.bottom() + 1))

    def visible_places(self) -> range:
        """Return the places of the tiles whose centres are on the screen."""
        height = self._tiles.size().height()
        first = -(-(self.verticalOffset() - height // 2) // height)
        end = -(-(self.verticalOffset() + self._port.height() - height // 2) // height)
        return self._places_of(first, end)

    def visualRect(self, index: QModelIndex) -> QRect:
        """Return where a tile is in the viewport."""
        return self._rect(index.row()) if index.isValid() else QRect()

    def indexAt(self, point: QPoint) -> QModelIndex:
        """Return the tile at a point of the viewport."""
        place = self._place_near(point)
        if 0 <= place < self._rows.rowCount() and self._rect(place).contains(point):
            return self._rows.index(place, 0)
        return QModelIndex()

    def scrollTo(
        self,
        index: QModelIndex,
        hint: QAbstractItemView.ScrollHint = QAbstractItemView.ScrollHint.EnsureVisible,
    ) -> None:
        """Scroll no further than is needed to show a tile whole."""
        bar = self.verticalScrollBar()
        if bar is None or not index.isValid():
            return
        rect = self.visualRect(index)
        below = rect.bottom() + 1 - self._port.height()
        if rect.top() < 0:
            bar.setValue(bar.value() + rect.top())
        elif below > 0:
            bar.setValue(bar.value() + below)

    def moveCursor(
        self, action: QAbstractItemView.CursorAction, modifiers: Qt.KeyboardModifier
    ) -> QModelIndex:
        """Go from the current tile to the one that a key asks for."""
        count = self._rows.rowCount()
        current = self.currentIndex()
        if not count:
            return QModelIndex()
        if not current.isValid():
            return self._rows.index(0, 0)
        move = QAbstractItemView.CursorAction
        page = max(1, self._port.height() // self._tiles.size().height()) * self._across
        steps = {
            move.MoveLeft: -1,
            move.MovePrevious: -1,
            move.MoveRight: 1,
            move.MoveNext: 1,
            move.MoveUp: -self._across,
            move.MoveDown: self._across,
            move.MovePageUp: -page,
            move.MovePageDown: page,
            move.MoveHome: -count,
            move.MoveEnd: count,
        }
        step = steps.get(action, 0)
        place = current.row() + step
        # A key that leads out of the tiles upwards or downwards stays in its column.
        if action in (move.MoveUp, move.MoveDown) and not 0 <= place < count:
            place = current.row()
        return self._rows.index(min(max(place, 0), count - 1), 0)

    def horizontalOffset(self) -> int:
        """Nothing is scrolled sideways."""
        return 0

    def verticalOffset(self) -> int:
        """Return how far the tiles are scrolled down in pixels."""
        bar = self.verticalScrollBar()
        return 0 if bar is None else bar.value()

    def isIndexHidden(self, index: QModelIndex) -> bool:
        """No row of the model is hidden."""
        return False

    def setSelection(self, rect: QRect, command: QItemSelectionModel.SelectionFlag) -> None:
        """Select the tiles from one corner to the other in the order of reading."""
        model, count = self.selectionModel(), self._rows.rowCount()
        if model is None or not count:
            return
        ends = sorted(
            min(max(self._place_near(point), 0), count - 1)
            for point in (rect.topLeft(), rect.bottomRight())
        )
        first, last = (self._rows.index(place, 0) for place in ends)
        model.select(QItemSelection(first, last), command)

    def visualRegionForSelection(self, selection: QItemSelection) -> QRegion:
        """Return what is to be drawn again for a selection."""
        return QRegion(self._port.rect())

    def updateGeometries(self) -> None:
        """Tell the scroll bar how many rows of tiles there are."""
        super().updateGeometries()
        bar = self.verticalScrollBar()
        if bar is not None:
            height = self._tiles.size().height()
            lines = -(-self._rows.rowCount() // self._across)
            bar.setRange(0, max(0, lines * height - self._port.height()))
            bar.setPageStep(self._port.height())
            bar.setSingleStep(height // 3)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the tiles that are on the screen."""
        painter = QPainter(self._port)
        option = QStyleOptionViewItem()
        self.initViewItemOption(option)
        state, selection = option.state, self.selectionModel()
        height = self._tiles.size().height()
        first = self.verticalOffset() // height
        end = -(-(self.verticalOffset() + self._port.height()) // height)
        for place in self._places_of(first, end):
            index = self._rows.index(place, 0)
            option.rect = self._rect(place)
            chosen = selection is not None and selection.isSelected(index)
            option.state = state | QStyle.StateFlag.State_Selected if chosen else state
            self._tiles.paint(painter, option, index)
        painter.end()

    def startDrag(self, actions: Qt.DropAction) -> None:
        """Drag the selected rows, shown as their number and the first of them."""
        places = self.selected_places()
        if not places:
            return
        drag = QDrag(self)
        drag.setMimeData(self._rows.mimeData(self._rows.index(place, 0) for place in places))
        drag.setPixmap(self._tiles.drag_picture(self._rows.number(places[0]), len(places)))
        drag.exec(Qt.DropAction.CopyAction)

    def contextMenuEvent(self, event: QContextMenuEvent | None) -> None:
        """Offer what can be done with a tile."""
        if event is not None and self.currentIndex().isValid():
            self.menu_wanted.emit(event.globalPos())

    def keyboardSearch(self, search: str | None) -> None:
        """Search nothing: letters are keys of the page."""

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep the current tile on the screen, and the hint in the middle."""
        super().resizeEvent(event)
        self.scrollTo(self.currentIndex())
        self._hint.setGeometry(self._port.rect().adjusted(12, 12, -12, -12))

    @property
    def _port(self) -> QWidget:
        port = self.viewport()
        assert port is not None
        return port

    @property
    def _across(self) -> int:
        return max(1, self._port.width() // self._tiles.size().width())

    def _rect(self, place: int) -> QRect:
        size, across = self._tiles.size(), self._across
        line, column = divmod(place, across)
        # Room that is left over is shared among the columns.
        left = column * self._port.width() // across
        room = (self._port.width() // across - size.width()) // 2
        top = line * size.height() - self.verticalOffset()
        return QRect(QPoint(left + max(0, room), top), size)

    def _place_near(self, point: QPoint) -> int:
        line = (point.y() + self.verticalOffset()) // self._tiles.size().height()
        column = point.x() * self._across // max(1, self._port.width())
        return line * self._across + min(max(column, 0), self._across - 1)

    def _places_of(self, first_line: int, end_line: int) -> range:
        end = min(end_line * self._across, self._rows.rowCount())
        return range(max(0, first_line) * self._across, max(0, end))

    def _set_up_hint(self) -> None:
        self._hint.setParent(self.viewport())
        self._hint.setWordWrap(True)
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._hint.hide()

    def _on_current(self, index: QModelIndex) -> None:
        if not self._following and index.isValid():
            self.row_chosen.emit(self._rows.number(index.row()))

    def _on_activated(self, index: QModelIndex) -> None:
        self.row_activated.emit(self._rows.number(index.row()))


class _Following:
    def __init__(self, view: TileView) -> None:
        self._view = view

    def __enter__(self) -> None:
        self._view._following = True

    def __exit__(self, *exception: object) -> None:
        self._view._following = False


class _TileDelegate(QStyledItemDelegate):
    """Draws a tile: thumbnail, frame in the colour of its class, class and confidence."""

    def __init__(
        self, rows: GalleryModel, loader: ThumbnailLoader, view: QAbstractItemView
    ) -> None:
        super().__init__(view)
        self._rows = rows
        self._loader = loader
        self._view = view
        self.side = SIDE

    def size(self) -> QSize:
        """Return the size of a tile in pixels."""
        around = 2 * (_FRAME + _GAP)
        caption = self._view.fontMetrics().height()
        return QSize(self.side + around, self.side + around + caption)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the size of a tile in pixels."""
        return self.size()

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Draw a tile."""
        if painter is None:
            return
        number = self._rows.number(index.row())
        tile = self._rows.tile(number)
        painter.save()
        square = QRect(
            option.rect.left() + _GAP + _FRAME,
            option.rect.top() + _GAP + _FRAME,
            self.side,
            self.side,
        )
        state = option.state
        if state & QStyle.StateFlag.State_Selected:
            highlight = option.palette.text().color()
            highlight.setAlpha(90)
            painter.fillRect(option.rect.adjusted(1, 1, -1, -1), highlight)
        self._draw_picture(painter, square, number)
        self._draw_frame(painter, square, tile)
        if index == self._view.currentIndex():
            painter.setPen(QPen(option.palette.text().color(), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(option.rect.adjusted(1, 1, -1, -1))
        caption = option.rect.adjusted(_GAP, _GAP + 2 * _FRAME + self.side, -_GAP, -1)
        painter.setPen(option.palette.text().color())
        self._draw_caption(painter, caption, tile)
        painter.restore()

    def drag_picture(self, number: int, count: int) -> QPixmap:
        """Draw what hangs at the pointer while rows are dragged."""
        found = self._loader.get(number)
        picture = QPixmap(64, 64)
        picture.fill(QColor(40, 40, 40))
        painter = QPainter(picture)
        if isinstance(found, QPixmap):
            painter.drawPixmap(picture.rect(), found)
        painter.fillRect(QRect(0, 44, 64, 20), QColor(0, 0, 0, 170))
        painter.setPen(QColor("white"))
        painter.drawText(QRect(0, 44, 64, 20), Qt.AlignmentFlag.AlignCenter, f"{count:,}")
        painter.end()
        return picture

    def _draw_picture(self, painter: QPainter, square: QRect, number: int) -> None:
        found = self._loader.get(number)
        if isinstance(found, QPixmap):
            painter.drawPixmap(square, found)
            return
        painter.fillRect(square, _EMPTY)
        if found is not None:
            wrapped = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(square.adjusted(3, 3, -3, -3), int(wrapped), "cannot be read")

    def _draw_frame(self, painter: QPainter, square: QRect, tile: Tile) -> None:
        half = _FRAME // 2 + 1
        around = square.adjusted(-half, -half, half - 1, half - 1)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if tile.colour:
            style = Qt.PenStyle.CustomDashLine if tile.suggested else Qt.PenStyle.SolidLine
            pen = QPen(QColor(tile.colour), _FRAME, style)
            if tile.suggested:
                pen.setDashPattern([2.5, 1.8])
            pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
            painter.setPen(pen)
            painter.drawRect(around)
        if tile.contradicted:
            corner = square.bottomRight()
            triangle = QPolygon([corner, corner - QPoint(16, 0), corner - QPoint(0, 16)])
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tile.contradicted))
            painter.drawPolygon(triangle)
        right = square.right() - 17
        for given, sign, colour in ((tile.unsure, "?", _UNSURE), (tile.unlike, "!", _UNLIKE)):
            if given:
                mark = QRect(right, square.top() + 2, 16, 16)
                painter.setPen(QPen(QColor(30, 30, 30), 1))
                painter.setBrush(colour)
                painter.drawEllipse(mark)
                painter.drawText(mark, Qt.AlignmentFlag.AlignCenter, sign)
                right -= 18

    def _draw_caption(self, painter: QPainter, place: QRect, tile: Tile) -> None:
        if not tile.name:
            return
        font = painter.font()
        font.setItalic(tile.suggested)
        font.setPointSizeF(font.pointSizeF() * 0.88)
        painter.setFont(font)
        metrics = painter.fontMetrics()
        sure = f" {tile.sure}" if tile.sure else ""
        room = place.width() - metrics.horizontalAdvance(sure)
        name = metrics.elidedText(tile.name, Qt.TextElideMode.ElideRight, room)
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, name + sure)
