"""Asking for what somebody else's network does not record."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_cellclf.bundles.foreign import ForeignFile, ForeignNetwork
from napari_cellclf.core.normalization import typed_forms
from napari_cellclf.plugin.classify.models.describing import Answers, describe
from napari_cellclf.plugin.shared.controls import small_label


class ImportForm(QWidget):
    """Name, classes, channels, normalisation of a network; hidden while there is none."""

    #: The answers are given; the network shall be imported.
    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found: ForeignFile | None = None
        self.says = small_label()
        self.name = _line("letters, digits, dots, dashes", "What the model will be called.")
        self.classes = _line("A, B, C", "The classes, in the order of the network's outputs.")
        self.channels = _line("DNA", "The channels, in the order in which the network takes them.")
        self.pixels = _line("100x100, or own", "Height x width the images are resized to.")
        self.normalization = QComboBox()
        self.normalization.setEditable(True)
        self.normalization.setToolTip("How pixels were scaled when the network was trained.")
        self.meaning = small_label()
        self.licence = _line("such as CC-BY-4.0", "Of the network's weights, if you know it.")
        self.bring = QPushButton("Import")
        self.drop = QPushButton("Discard")
        self.bring.clicked.connect(self.wanted)
        self.drop.clicked.connect(self.forget)
        self._lay_out()

    @property
    def file(self) -> Path:
        """The network's file."""
        return Path() if self._found is None else self._found.path

    def show_file(self, found: ForeignFile) -> None:
        """Ask about a file."""
        self._found = found
        self.says.setText(f"{found}, {found.n_parameters:,} parameters, from {found.kind}.")
        for line in (self.name, self.classes, self.channels, self.licence):
            line.clear()
        self.normalization.setCurrentIndex(-1)
        self.normalization.clearEditText()
        self.classes.setPlaceholderText(f"{found.n_classes} names, separated by commas")
        many = "s, separated by commas" if found.n_channels > 1 else ""
        self.channels.setPlaceholderText(f"{found.n_channels} name{many}")
        fixed = found.size
        self.pixels.setText("" if fixed is None else f"{fixed[0]}x{fixed[1]}")
        self.pixels.setEnabled(fixed is None)
        self.setVisible(True)

    def forget(self) -> None:
        """Ask about nothing."""
        self._found = None
        self.setVisible(False)

    def described(self) -> ForeignNetwork | str:
        """Return the answers, or one sentence of what is missing."""
        if self._found is None:
            return "No network was chosen; press Import and choose a .keras file."
        return describe(
            self._found,
            Answers(
                name=self.name.text(),
                classes=self.classes.text(),
                channels=self.channels.text(),
                size=self.pixels.text(),
                normalization=self.normalization.currentText(),
                licence=self.licence.text(),
            ),
        )

    def _on_normalization(self, text: str) -> None:
        """Say what a form means, also once numbers stand in the place of its letters."""
        word, colon, _ = text.partition(":")
        forms = typed_forms()
        fits = [form for form in forms if form.partition(":")[:2] == (word, colon)]
        self.meaning.setText(forms[fits[0]] if fits else "")

    def _lay_out(self) -> None:
        self.normalization.addItems(list(typed_forms()))
        self.normalization.currentTextChanged.connect(self._on_normalization)
        form = QFormLayout(self)
        form.setContentsMargins(0, 6, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow(self.says)
        form.addRow("Name", self.name)
        form.addRow("Classes", self.classes)
        form.addRow("Channels", self.channels)
        form.addRow("Size", self.pixels)
        form.addRow("Pixels", self.normalization)
        form.addRow("", self.meaning)
        form.addRow("Licence", self.licence)
        row = QHBoxLayout()
        row.addWidget(self.bring, 2)
        row.addWidget(self.drop, 1)
        form.addRow(row)


def _line(placeholder: str, hint: str) -> QLineEdit:
    line = QLineEdit()
    line.setPlaceholderText(placeholder)
    line.setToolTip(hint)
    return line
