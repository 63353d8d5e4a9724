"""How the widget is laid out; it decides nothing."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.classify.channel_form import ChannelForm
from napari_cellclf.plugin.classify.model_picker import ModelPicker
from napari_cellclf.plugin.classify.models.part import ModelsPart
from napari_cellclf.plugin.classify.results_view import ResultsView
from napari_cellclf.plugin.shared.controls import (
    CommandLine,
    MessageLine,
    fill_with_scroll_area,
    small_label,
    wide_combo,
)
from napari_cellclf.plugin.shared.paths import PathField
from napari_cellclf.plugin.shared.section import Section

LAYERS_TAB, FOLDER_TAB = 0, 1


class ClassifyForm(QWidget):
    """Model, all models, image or folder, channels, button, progress, answers, downwards."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ModelPicker()
        self.model_summary = small_label()
        self.models = ModelsPart()
        self.models_section = Section("Models", self.models, open=False)
        self.image = wide_combo("Which of the open images is classified; select its layers.")
        self.axis = wide_combo("Which axis of the layer holds the channels.")
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
        column.addWidget(self.models_section)
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
        fill_with_scroll_area(self, inner)

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
