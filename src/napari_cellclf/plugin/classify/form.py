"""How the widget is laid out; it decides nothing."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.classify.channel_form import ChannelForm
from napari_cellclf.plugin.classify.model_picker import ModelPicker
from napari_cellclf.plugin.classify.paths import PathField
from napari_cellclf.plugin.classify.results_view import ResultsView

LAYERS_TAB, FOLDER_TAB = 0, 1


class ClassifyForm(QWidget):
    """Model, image or folder, channels, button, progress, answers: from top to bottom."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ModelPicker()
        self.model_summary = _small_label()
        self.image = _wide_combo("Which of the open images is classified; select its layers.")
        self.axis = _wide_combo("Which axis of the layer holds the channels.")
        self.channels = ChannelForm()
        self.folder = PathField("folder, or CSV table with a path column", "Choose a folder")
        self.tabs = QTabWidget()
        self.message = MessageLine()
        self.classify = QPushButton("Classify")
        self.cancel = QPushButton("Cancel")
        self.progress = QProgressBar()
        self.results = ResultsView()
        self.command = CommandLine()
        self._lay_out()

    def show_axis(self, visible: bool) -> None:
        """Show or hide the question which axis holds the channels."""
        self.axis.setVisible(visible)
        label = self._layers_form.labelForField(self.axis)
        if label is not None:
            label.setVisible(visible)

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(self._model_rows())
        column.addWidget(self._input_tabs())
        column.addWidget(self.message)
        column.addLayout(self._button_row())
        self.progress.setVisible(False)
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        column.addWidget(self.progress)
        column.addWidget(self.results, 1)
        column.addWidget(self.command)
        column.addStretch(0)
        _fill_with_scroll_area(self, inner)

    def _model_rows(self) -> QFormLayout:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Model", self.model)
        form.addRow("", self.model_summary)
        return form

    def _input_tabs(self) -> QTabWidget:
        layers, folder = QWidget(), QWidget()
        self._layers_form = QFormLayout(layers)
        self._layers_form.addRow("Image", self.image)
        self._layers_form.addRow("Channel axis", self.axis)
        self._layers_form.addRow(self.channels)
        folder_form = QFormLayout(folder)
        folder_form.addRow("Folder", self.folder)
        self.tabs.addTab(layers, "Open image")
        self.tabs.addTab(folder, "Folder")
        self.tabs.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        return self.tabs

    def _button_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(self.classify, 2)
        row.addWidget(self.cancel, 1)
        self.cancel.setEnabled(False)
        return row


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
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._sign)
        row.addWidget(self._text, 1)
        self.say("")

    def say(self, text: str, *, wrong: bool = False) -> None:
        """Show a sentence.

        Parameters
        ----------
        text : str
            Plain text; empty hides the line.
        wrong : bool
            Whether something has to be done about it.
        """
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self._text.setText(text)
        self._sign.setVisible(wrong)
        self.setVisible(bool(text))

    def text(self) -> str:
        """Return the sentence."""
        return str(self._text.text())

    def is_wrong(self) -> bool:
        """Whether it tells of something wrong."""
        return not self._sign.isHidden()


class CommandLine(QWidget):
    """The command that does the same, to be copied."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = QLineEdit()
        self._line.setReadOnly(True)
        copy = QPushButton("Copy")
        copy.clicked.connect(self._copy)
        row = QHBoxLayout()
        row.addWidget(self._line, 1)
        row.addWidget(copy)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(QLabel("The same from a terminal"))
        column.addLayout(row)
        self.show_command("")

    def show_command(self, command: str) -> None:
        """Show a command; an empty one hides the line."""
        self._line.setText(command)
        self._line.setCursorPosition(0)
        self._line.setToolTip(command)
        self.setVisible(bool(command))

    def text(self) -> str:
        """Return the command."""
        return str(self._line.text())

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text())


class _VerticalScrollArea(QScrollArea):
    """Scrolls up and down only: as wide as what is in it needs, with the scroll bar beside."""

    def minimumSizeHint(self) -> QSize:
        """Leave room for the contents and the scroll bar."""
        inner, bar = self.widget(), self.verticalScrollBar()
        hint = super().minimumSizeHint()
        if inner is None or bar is None:
            return hint
        return QSize(inner.minimumSizeHint().width() + bar.sizeHint().width(), hint.height())

    def event(self, event: QEvent | None) -> bool:
        """Ask for room anew when the contents need another width."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().event(event))


def _fill_with_scroll_area(outer: QWidget, inner: QWidget) -> None:
    area = _VerticalScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inner)
    column = QVBoxLayout(outer)
    column.setContentsMargins(0, 0, 0, 0)
    column.addWidget(area)
    # napari leaves the rest of the dock empty below widgets that do not ask for it.
    outer.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)


def _small_label() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    font = label.font()
    font.setPointSizeF(font.pointSizeF() * 0.9)
    label.setFont(font)
    return label


def _wide_combo(hint: str) -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(14)
    box.setToolTip(hint)
    return box
