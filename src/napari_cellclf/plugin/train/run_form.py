"""The part of the form that starts a run, shows how it goes, and what it found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.counting import time_left
from napari_cellclf.plugin.shared.controls import (
    TRAIN,
    VALIDATION,
    CommandLine,
    Footer,
    MessageLine,
    shortened,
    small_label,
)
from napari_cellclf.plugin.shared.messages import in_plain_words
from napari_cellclf.plugin.shared.path_field import PathField
from napari_cellclf.plugin.train.data_form import more_rows
from napari_cellclf.plugin.train.run_state import EpochPoint, RunState

_STEPS = 1000
_NOTES_SHOWN = 3
#: x and y of each point of a curve.
Series = Sequence[tuple[float, float]]

_STOP = "Finishes the current step, saves, and ends within 10 seconds; Resume continues from there."
_STOP_NOW = (
    "Ends the run at once, without saving. Resume continues from its last checkpoint, by default a "
    "minute old at most, and computes what came after it again."
)
_REDRAW_MS = 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 20, 18


class RunForm(QWidget):
    """Folder, buttons, progress, curves, result."""

    #: Another folder stands in the field.
    folder_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder = PathField(
            "a new folder, or the folder of a run to follow", "Choose the folder of a run"
        )
        #: What is changed seldom, to be shown among the advanced choices.
        self.more = QWidget()
        self.train = QPushButton("Train")
        self.new = QPushButton("New run")
        self.new.setToolTip(
            "Leaves this run as it is; trains what is chosen above in a new folder."
        )
        self.stop = QPushButton("Stop")
        self.offer_stop(able=False, now=False)
        self.message = MessageLine()
        self.progress = QProgressBar()
        self.stage = small_label()
        self.device = small_label()
        self.curves = Curves()
        self.notes = small_label()
        self.result = ResultView()
        self.command = CommandLine()
        #: Stays in view below all parts of the form.
        self.footer = Footer(
            self.message, [self.train, self.new, self.stop], self.progress, self.stage
        )
        self._lay_out()
        self.folder.changed.connect(self.folder_changed)
        self.show_state(None)

    def offer(self, *, resume: str, new: bool, able: bool) -> None:
        """Let the buttons say what they do.

        `resume`: name of the run that would be resumed; empty to train what is chosen. `new`:
        whether a run is open that can be left; `able`: whether the first button can be pressed.
        """
        self.train.setText(f"Resume {shortened(resume)}" if resume else "Train")
        self.train.setVisible(bool(resume) or not new)
        self.train.setEnabled(able)
        self.new.setVisible(new)

    def offer_stop(self, *, able: bool, now: bool) -> None:
        """Let the button *Stop* say what it does; once it was pressed, it ends the run at once."""
        self.stop.setEnabled(able)
        self.stop.setText("Stop now" if now else "Stop")
        self.stop.setToolTip(_STOP_NOW if now else _STOP)

    def show_state(self, state: RunState | None, *, waiting: str = "") -> None:
        """Show how a run goes."""
        under_way = bool(waiting) or (state is not None and state.started and not state.ending)
        self.progress.setVisible(under_way)
        stage = waiting or ("" if state is None else _stage_line(state))
        self.stage.setText(stage)
        self.stage.setVisible(bool(stage))
        # Until a part tells how far it is, the bar moves to and fro.
        known = state is not None and state.total > 0 and state.counted and not waiting
        self.progress.setRange(0, _STEPS if known else 0)
        if state is not None and known:
            self.progress.setValue(round(_STEPS * state.done / state.total))
        device = "" if state is None else state.device
        self.device.setText(f"Device: {device}" if device else "")
        self.device.setVisible(bool(device))
        self.curves.show_state(state or RunState())
        notes = () if state is None else tuple(map(in_plain_words, state.notes))
        self.notes.setText("\n".join(f"• {note}" for note in notes[-_NOTES_SHOWN:]))
        self.notes.setToolTip("\n".join(notes))
        self.notes.setVisible(bool(notes))

    def _lay_out(self) -> None:
        more_rows(self.more).addRow("Folder", self.folder)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 0, 0, 0)
        for widget in (self.device, self.curves, self.notes):
            column.addWidget(widget)
        column.addWidget(self.result)
        column.addWidget(self.command)


class ResultView(QWidget):
    """What a finished run found, and what can be done with it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.headline = small_label()
        font = self.headline.font()
        font.setPointSizeF(font.pointSizeF() / 0.9)
        font.setBold(True)
        self.headline.setFont(font)
        self.report = QPushButton("Open report")
        self.report.setToolTip("In the web browser: one page that loads nothing from elsewhere.")
        self.use = QPushButton("Classify with this model")
        self.use.setToolTip("Opens the tab Results with it chosen.")
        row = QHBoxLayout()
        row.addWidget(self.report)
        row.addWidget(self.use)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 4)
        column.addWidget(self.headline)
        column.addLayout(row)
        self.show_headline("", report=False)

    def show_headline(self, text: str, *, report: bool) -> None:
        """Show a result; an empty one hides everything."""
        self.headline.setText(text)
        self.report.setVisible(report)
        self.setVisible(bool(text))


def _stage_line(state: RunState) -> str:
    if state.ending or not state.stage:
        return ""
    left = time_left(state.seconds_left, of_stage=state.of_stage)
    return f"{state.stage_text} · {left}" if left else f"{state.stage_text}…"


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
