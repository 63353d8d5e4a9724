"""The part of the form that says what is trained, and how."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.models.architectures.registry import list_architectures
from napari_cellclf.models.training.presets import (
    DEFAULT_PRESET,
    Preset,
    find_preset,
    list_presets,
    make_config,
)
from napari_cellclf.plugin.shared.controls import MessageLine, Section, small_label, wide_combo
from napari_cellclf.plugin.shared.path_field import PathField
from napari_cellclf.plugin.shared.settings_form import SettingsForm
from napari_cellclf.plugin.train.data_form import more_rows
from napari_cellclf.plugin.train.request import ModelEntries, usual

#: Settings that have a control of their own outside the advanced ones.
_SHOWN_ABOVE = ("architecture", "continue_from", "batch_size", "seed")


class ModelForm(QWidget):
    """Preset, network, the few numbers that are often changed, and all others under Advanced."""

    #: Something was entered.
    changed = Signal()
    #: Another preset was chosen.
    preset_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.preset = wide_combo("Settings that belong together; change any of them below.")
        self.description = small_label()
        self.why = QPushButton("Why?")
        self.why.setToolTip("Shows the reason for each setting.")
        self.architecture = wide_combo("The network; the preset is tuned for its own.")
        self.epochs = _field("Number of epochs.")
        self.batch_size = _field("Images per batch; fewer need less memory.")
        self.learning_rate = _field("The largest learning rate.")
        self.continue_from = PathField(
            "none: train a new model",
            "Choose a model to continue from",
            file="Model file (.cellclf)",
        )
        usual_config = make_config(find_preset(DEFAULT_PRESET).config)
        self.advanced = SettingsForm(usual_config, without=_SHOWN_ABOVE)
        self.advanced_section = Section("All settings", self.advanced, open=False)
        self.advanced.heading = self.advanced_section.heading
        #: What is changed seldom, to be shown among the advanced choices.
        self.more = QWidget()
        self.message = MessageLine()
        self.preview = QPushButton("Preview augmentation")
        self.preview.setToolTip(
            "Opens a few training images as layers, exactly as the network will see them."
        )
        self._lay_out()
        self._fill()
        self._connect()
        self._show_preset()

    def current(self) -> Preset:
        """Return the chosen preset."""
        preset: Preset = self.preset.currentData()
        return preset

    def choose(self, name: str) -> None:
        """Choose a preset by its name."""
        names = [preset.name for preset in list_presets()]
        self.preset.setCurrentIndex(names.index(name))

    def entries(self) -> ModelEntries:
        """Return what stands in the form."""
        return ModelEntries(
            self.current().name,
            self.architecture.currentData() or "",
            self.epochs.text(),
            self.batch_size.text(),
            self.learning_rate.text(),
            self.continue_from.path(),
            tuple(self.advanced.entries().items()),
        )

    def _fill(self) -> None:
        for preset in list_presets():
            self.preset.addItem(preset.title, preset)
        self.choose(DEFAULT_PRESET)
        self.architecture.addItem("", None)
        for name in list_architectures():
            self.architecture.addItem(name, name)

    def _connect(self) -> None:
        self.preset.currentIndexChanged.connect(self._on_preset)
        self.architecture.currentIndexChanged.connect(self._on_architecture)
        for field in (self.epochs, self.batch_size, self.learning_rate):
            field.textChanged.connect(self.changed)
        self.continue_from.changed.connect(self._on_continue)
        self.advanced.changed.connect(self._on_advanced)

    def _on_preset(self) -> None:
        self._show_preset()
        self.preset_changed.emit()
        self.changed.emit()

    def _on_advanced(self) -> None:
        count = len(self.advanced.entries())
        self.advanced_section.summarise(f"{count} changed" if count else "")
        self.changed.emit()

    def _on_architecture(self) -> None:
        self._show_usual()
        self.changed.emit()

    def _show_usual(self) -> None:
        """Show in the advanced settings what preset and network together give."""
        fields = self.current().fields_for(self.architecture.currentData() or None)
        self.advanced.fill(make_config(fields))

    def _show_preset(self) -> None:
        preset = self.current()
        self.description.setText(preset.description)
        self.preset.setToolTip(f"{preset.name}: {preset.description}")
        known = usual(preset)
        self.epochs.setPlaceholderText(known.epochs)
        self.batch_size.setPlaceholderText(known.batch_size)
        self.learning_rate.setPlaceholderText(known.learning_rate)
        with QSignalBlocker(self.architecture):
            self.architecture.setItemText(0, f"{known.architecture} (the preset's)")
        self._show_usual()

    def _on_continue(self) -> None:
        # The bundle says which network it is.
        self.architecture.setEnabled(not self.continue_from.path().strip())
        self.changed.emit()

    def _lay_out(self) -> None:
        preset = QHBoxLayout()
        preset.setContentsMargins(0, 0, 0, 0)
        preset.addWidget(self.preset, 1)
        preset.addWidget(self.why)
        numbers = QHBoxLayout()
        numbers.setContentsMargins(0, 0, 0, 0)
        numbers.addWidget(self.epochs)
        for title, field in (("batch", self.batch_size), ("rate", self.learning_rate)):
            numbers.addWidget(QLabel(title))
            numbers.addWidget(field)
        rows = more_rows(self.more)
        rows.addRow("Network", self.architecture)
        rows.addRow("Epochs", numbers)
        rows.addRow("Start from", self.continue_from)
        rows.addRow(self.advanced_section)
        # A grid and not a form layout, which cuts lines off a label that spans both columns.
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        grid.addWidget(QLabel("Preset"), 0, 0)
        grid.addLayout(preset, 0, 1)
        grid.addWidget(self.description, 1, 0, 1, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 0, 0, 4)
        column.addLayout(grid)
        for widget in (self.message, self.preview):
            column.addWidget(widget)


def _field(hint: str) -> QLineEdit:
    field = QLineEdit()
    field.setToolTip(hint)
    field.setMinimumWidth(32)
    return field
