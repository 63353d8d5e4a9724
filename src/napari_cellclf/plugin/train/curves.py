"""Loss and accuracy as they come, painted in under a millisecond."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_cellclf.plugin.shared.controls import small_label
from napari_cellclf.plugin.train.colours import TRAIN, VALIDATION
from napari_cellclf.plugin.train.run_state import EpochPoint, RunState

Series = Sequence[tuple[float, float]]

_REDRAW_MS = 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 20, 18


class Curves(QWidget):
    """Two plots side by side, and what their colours mean."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.loss = CurvePlot("loss")
        self.accuracy = CurvePlot("accuracy", top=1.0, write=lambda value: f"{100 * value:.0f} %")
        self._legend = small_label()
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        plots = QHBoxLayout()
        plots.setSpacing(4)
        plots.addWidget(self.loss)
        plots.addWidget(self.accuracy)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(plots)
        column.addWidget(self._legend)
        self._state = RunState()
        # However often there is news, twice a second is soon enough.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_REDRAW_MS)
        self._soon.timeout.connect(self.draw)
        self.draw()

    def show_state(self, state: RunState) -> None:
        """Show a run, soon."""
        self._state = state
        if not self._soon.isActive():
            self._soon.start()

    def draw(self) -> None:
        """Show at once what is known."""
        state = self._state
        points = [*state.points, *([state.current] if state.current else [])]
        head = sum(point.stage == "head" for point in points)
        border = head if 0 < head < len(points) else None
        for plot, of_train, of_validation in (
            (self.loss, _loss, _validation_loss),
            (self.accuracy, _accuracy, _validation_accuracy),
        ):
            plot.show_series(
                _series(points, of_train), _series(state.points, of_validation), border
            )
        self._legend.setText(_legend(state))
        self.setVisible(bool(points))


class CurvePlot(QWidget):
    """One figure by epochs, for training and validation."""

    def __init__(
        self,
        title: str,
        *,
        top: float | None = None,
        write: Callable[[float], str] = lambda value: f"{value:.2g}",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._title = title
        self._top = top
        self._write = write
        self._train: Series = ()
        self._validation: Series = ()
        self._border: int | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return the size that suits a dock."""
        return QSize(160, 140)

    def minimumSizeHint(self) -> QSize:
        """Return the size below which nothing can be read."""
        return QSize(120, 140)

    def show_series(self, train: Series, validation: Series, border: int | None) -> None:
        """Show other values."""
        self._train, self._validation, self._border = train, validation, border
        self.setToolTip(_hint(self._title, train, validation, self._write))
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw it all."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(text)
        faint.setAlpha(90)
        box = QRectF(self.rect()).adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM)
        values = [value for _, value in (*self._train, *self._validation)]
        last = max((epoch for epoch, _ in self._train), default=1.0)
        low, high = _limits(values, self._top)

        def place(epoch: float, value: float) -> QPointF:
            x = 0.5 if last <= 1 else (epoch - 1) / (last - 1)
            return QPointF(
                box.left() + box.width() * x,
                box.bottom() - box.height() * (value - low) / (high - low),
            )

        font = painter.font()
        font.setPointSizeF(max(6.5, font.pointSizeF() * 0.8))
        painter.setFont(font)
        self._draw_frame(painter, box, text, faint, (low, high), last)
        if self._border is not None:
            pen = QPen(faint, 1, Qt.PenStyle.DashLine)
            painter.setPen(pen)
            x = place(self._border + 0.5, low).x()
            painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        for series, colour in ((self._train, TRAIN), (self._validation, VALIDATION)):
            _draw_series(painter, [place(*point) for point in series], colour)
        painter.end()

    def _draw_frame(
        self,
        painter: QPainter,
        box: QRectF,
        text: QColor,
        faint: QColor,
        limits: tuple[float, float],
        last: float,
    ) -> None:
        painter.setPen(QPen(faint, 1))
        painter.drawLine(box.bottomLeft(), box.topLeft())
        painter.drawLine(box.bottomLeft(), box.bottomRight())
        painter.setPen(text)
        right = Qt.AlignmentFlag.AlignRight
        middle = Qt.AlignmentFlag.AlignVCenter
        for value, y in ((limits[1], box.top()), (limits[0], box.bottom())):
            area = QRectF(0, y - 8, _LEFT - 4, 16)
            painter.drawText(area, int(right | middle), self._write(value))
        title = QRectF(box.left(), 0, box.width(), _TOP - 2)
        painter.drawText(title, int(Qt.AlignmentFlag.AlignHCenter | middle), self._title)
        below = QRectF(box.left(), box.bottom() + 2, box.width(), _BOTTOM - 2)
        if last > 1:
            painter.drawText(below, int(Qt.AlignmentFlag.AlignLeft), "1")
            painter.drawText(below, int(right), f"{last:g}")
        painter.drawText(below, int(Qt.AlignmentFlag.AlignHCenter), "epoch")


def _draw_series(painter: QPainter, points: Sequence[QPointF], colour: QColor) -> None:
    if not points:
        return
    painter.setPen(QPen(colour, 1.8))
    painter.drawPolyline(QPolygonF(points))
    painter.setBrush(colour)
    painter.drawEllipse(points[-1], 2.2, 2.2)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _series(
    points: Sequence[EpochPoint], value_of: Callable[[EpochPoint], float | None]
) -> list[tuple[float, float]]:
    values = [(float(number), value_of(point)) for number, point in enumerate(points, start=1)]
    return [(number, value) for number, value in values if value is not None and value == value]


def _limits(values: Sequence[float], top: float | None) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, top or 1.0
    low, high = min(finite), max(finite)
    if top is not None:
        # A tenth at a time, so that the axis stays where it is for a while.
        return math.floor(low * 10 - 1e-9) / 10 if low > 0 else 0.0, top
    return 0.0, high * 1.05 or 1.0


def _loss(point: EpochPoint) -> float | None:
    return point.loss


def _accuracy(point: EpochPoint) -> float | None:
    return point.accuracy


def _validation_loss(point: EpochPoint) -> float | None:
    return point.validation_loss


def _validation_accuracy(point: EpochPoint) -> float | None:
    return point.validation_accuracy


def _hint(title: str, train: Series, validation: Series, write: Callable[[float], str]) -> str:
    lines = [
        f"{name} {title} {write(series[-1][1])}"
        for name, series in (("training", train), ("validation", validation))
        if series
    ]
    return "\n".join(lines)


def _legend(state: RunState) -> str:
    train = f'<span style="color:{TRAIN.name()}">▬</span> training'
    if state.has_validation:
        return f'{train} &nbsp; <span style="color:{VALIDATION.name()}">▬</span> validation'
    # Without a judge these curves say little, and that is said.
    return f"{train} &nbsp; (no validation images: these curves do not tell how good it is)"
