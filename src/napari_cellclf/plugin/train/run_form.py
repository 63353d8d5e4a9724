"""The part of the form that starts a run, shows how it goes, and what it found."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.shared.controls import CommandLine, MessageLine, small_label
from napari_cellclf.plugin.shared.paths import PathField
from napari_cellclf.plugin.train.curves import Curves
from napari_cellclf.plugin.train.run_state import RunState, time_left

_STEPS = 1000
_NOTES_SHOWN = 3


class RunForm(QWidget):
    """Folder, buttons, progress, curves, result."""

    #: Another folder stands in the field.
    folder_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder = PathField(
            "new folder, or that of a run to follow", "Choose the folder of a run"
        )
        self.train = QPushButton("Train")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Ends after the batch in hand; Resume goes on from there.")
        self.message = MessageLine()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(10)
        self.stage = small_label()
        self.device = small_label()
        self.curves = Curves()
        self.notes = small_label()
        self.result = ResultView()
        self.command = CommandLine()
        self._lay_out()
        self.folder.changed.connect(self.folder_changed)
        self.show_state(None)

    def show_state(self, state: RunState | None, *, waiting: str = "") -> None:
        """Show how a run goes."""
        under_way = bool(waiting) or (state is not None and state.started and not state.ending)
        self.progress.setVisible(under_way)
        stage = waiting or ("" if state is None else _stage_line(state))
        self.stage.setText(stage)
        self.stage.setVisible(bool(stage))
        known = state is not None and state.total > 0 and not waiting
        self.progress.setRange(0, _STEPS if known else 0)
        if state is not None and known:
            self.progress.setValue(round(_STEPS * state.done / state.total))
        device = "" if state is None else state.device
        self.device.setText(f"Device: {device}" if device else "")
        self.device.setVisible(bool(device))
        self.curves.show_state(state or RunState())
        notes = () if state is None else state.notes
        self.notes.setText("\n".join(f"• {note}" for note in notes[-_NOTES_SHOWN:]))
        self.notes.setToolTip("\n".join(notes))
        self.notes.setVisible(bool(notes))

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Folder", self.folder)
        buttons = QHBoxLayout()
        buttons.addWidget(self.train, 2)
        buttons.addWidget(self.stop, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 0, 0, 0)
        column.addLayout(form)
        column.addWidget(self.message)
        column.addLayout(buttons)
        for widget in (self.progress, self.stage, self.device, self.curves, self.notes):
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
        self.report.setToolTip("In the web browser: one page, nothing is fetched.")
        self.use = QPushButton("Use this model")
        self.use.setToolTip("Opens Classify with this model.")
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
    left = time_left(state.seconds_left)
    return f"{state.stage_text} · {left}" if left else f"{state.stage_text}…"
