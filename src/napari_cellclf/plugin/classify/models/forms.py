"""The forms that ask about somebody else's network, a server, and an export."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.counting import counted
from napari_cellclf.core.normalization import parse_normalization, typed_forms
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import InputError
from napari_cellclf.models.export.export_options import ExportOptions
from napari_cellclf.plugin.shared.controls import small_label
from napari_cellclf.plugin.shared.messages import sentence
from napari_cellclf.plugin.shared.settings_form import SettingsForm

if TYPE_CHECKING:
    from napari_cellclf.bundles.foreign import ForeignFile, ForeignNetwork


class ImportForm(QWidget):
    """Name, classes, channels, normalisation of a network; hidden while there is none."""

    #: The user pressed Import.
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
        """Return the entries, or one sentence that says what is missing."""
        if self._found is None:
            return "No network was chosen; press Import and choose a .keras file."
        return describe(
            self._found,
            ImportEntries(
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


_SIZE = re.compile(r"(\d{1,5}) ?[x×] ?(\d{1,5})")  # noqa: RUF001 - the sign, as people type it


@dataclass(frozen=True)
class ImportEntries:
    """What stands in the form."""

    name: str
    classes: str
    channels: str
    size: str
    normalization: str
    licence: str = ""


def describe(found: ForeignFile, entries: ImportEntries) -> ForeignNetwork | str:
    """Put the entries together, guessing nothing."""
    from napari_cellclf.bundles.foreign import ForeignNetwork, check_description

    missing = [
        what
        for what, text in (
            ("a name", entries.name),
            (f"the {counted(found.n_classes, 'class')}", entries.classes),
            ("the channels", entries.channels),
            ("the size (height x width, or own)", entries.size),
            ("how pixels were scaled", entries.normalization),
        )
        if not text.strip()
    ]
    if missing:
        return f"Still missing: {', '.join(missing)}."
    classes = _names(entries.classes)
    if len(classes) != found.n_classes:
        return (
            f"The network has {counted(found.n_classes, 'class')}, but "
            f"{counted(len(classes), 'was', 'were')} named; "
            "name each, in the order of its outputs, with commas between."
        )
    try:
        described = ForeignNetwork(
            name=entries.name.strip(),
            classes=[{"name": name} for name in classes],
            preprocessing=Preprocessing(
                channels=[{"name": name} for name in _names(entries.channels)],
                size=_size(entries.size),
                normalization=parse_normalization(entries.normalization),
            ),
            licence=entries.licence.strip(),
        )
        check_description(found, described)
    except ValidationError as error:
        return sentence(reason_of(error))
    except InputError as error:
        return sentence(str(error))
    return described


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _size(text: str) -> tuple[int, int] | None:
    if text.strip() == "own":
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"the size {text!r} is not of the form 100x100, nor own")
    return int(match[1]), int(match[2])


_SAYS = (
    "A computer that runs cellclf serve, such as one with a graphics card, computes the network. "
    "Images are prepared here and sent to it."
)


class ServerForm(QWidget):
    """Address and token; hidden until it is asked for."""

    #: The user pressed Connect.
    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.address = QLineEdit()
        self.address.setPlaceholderText("https://plates.example")
        self.token = QLineEdit()
        self.token.setPlaceholderText("if it asks for one")
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.connect_button = QPushButton("Connect")
        self.drop = QPushButton("Discard")
        self.connect_button.clicked.connect(self.wanted)
        self.address.returnPressed.connect(self.wanted)
        self.drop.clicked.connect(self.hide)
        says = small_label()
        says.setText(_SAYS)
        row = QHBoxLayout()
        row.addWidget(self.connect_button, 2)
        row.addWidget(self.drop, 1)
        form = QFormLayout(self)
        form.setContentsMargins(0, 6, 0, 0)
        form.addRow(says)
        form.addRow("Address", self.address)
        form.addRow("Token", self.token)
        form.addRow(row)
        self.setVisible(False)


class ExportForm(QWidget):
    """Format, licence and authors; hidden until it is asked for."""

    #: The user pressed Export.
    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.settings = SettingsForm(ExportOptions())
        self.export = QPushButton("Export…")
        self.drop = QPushButton("Discard")
        self.export.clicked.connect(self.wanted)
        self.drop.clicked.connect(self.hide)
        row = QHBoxLayout()
        row.addWidget(self.export, 2)
        row.addWidget(self.drop, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.addWidget(self.settings)
        column.addLayout(row)
        self.setVisible(False)

    def options(self) -> ExportOptions:
        """Return what is chosen."""
        return ExportOptions.model_validate(self.settings.entries())
