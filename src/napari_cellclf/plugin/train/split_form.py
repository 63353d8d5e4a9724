"""The part of the form that says how the images are divided."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.shared.controls import WARNING, MessageLine, small_label, wide_combo
from napari_cellclf.plugin.train.count_table import CountTable
from napari_cellclf.plugin.train.data import FoundData
from napari_cellclf.plugin.train.data_form import more_rows
from napari_cellclf.plugin.train.request import (
    DEFAULT_PARTS,
    GIVEN,
    RANDOM,
    SplitChoice,
    SplitResult,
)

_RED = (
    "Images of one group are on both sides of the split. What is measured on the test images will "
    "look better than it is, and the report will say so."
)


class SplitForm(QWidget):
    """What is kept together, how much is held out, and what came of it."""

    #: The user chose another split.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.by = wide_combo(
            "Images with the same value in this column stay on one side of the split. Several "
            "columns can be joined, such as experiment+plate."
        )
        self.by.setEditable(True)
        self.by.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.validation = _percent(
            DEFAULT_PARTS[0], "Held out: decides when to stop, and calibrates the confidence."
        )
        self.test = _percent(
            DEFAULT_PARTS[1], "Held out: measures the finished model; decides nothing."
        )
        self.seed = QSpinBox()
        self.seed.setRange(0, 99_999)
        self.seed.setToolTip("The same seed gives the same split and the same run.")
        #: What is changed seldom, to be shown among the advanced choices.
        self.more = QWidget()
        self.message = MessageLine()
        self.table = CountTable(["train", "valid.", "test"])
        self.allow = QCheckBox("Train anyway")
        self.red = small_label()
        self.red.setText(_RED)
        self.red.setStyleSheet(f"color: {WARNING}; font-weight: bold;")
        self._lay_out()
        self.by.activated.connect(self.changed)
        edit = self.by.lineEdit()
        if edit is not None:
            edit.editingFinished.connect(self.changed)
        for spin in (self.validation, self.test, self.seed):
            spin.valueChanged.connect(self.changed)
        self.allow.toggled.connect(self.changed)
        self.show_answer(None)

    def fill(self, found: FoundData) -> None:
        """Offer what the images could be kept together by; the guess, or what is given, first."""
        with QSignalBlocker(self.by), QSignalBlocker(self.allow):
            self.by.clear()
            if found.given:
                self.by.addItem("as given by folders or table", GIVEN)
            for name in found.groups:
                guessed = name == found.dataset.group_column
                self.by.addItem(f"{name} (guessed)" if guessed else name, name)
            self.by.addItem("nothing (random)", RANDOM)
            guessed_or_given = found.given or found.dataset.group_column is not None
            self.by.setCurrentIndex(0 if guessed_or_given else self.by.count() - 1)
            edit = self.by.lineEdit()
            if edit is not None:
                edit.setCursorPosition(0)
            self.allow.setChecked(False)

    def choice(self) -> SplitChoice:
        """Return what is chosen."""
        text = self.by.currentText().strip()
        index = self.by.findText(text)
        by = self.by.itemData(index) if index >= 0 else text
        return SplitChoice(
            by or RANDOM,
            self.validation.value(),
            self.test.value(),
            self.seed.value(),
            self.allow.isChecked(),
        )

    def choose(self, by: str) -> None:
        """Choose what is kept together, as if typed."""
        index = self.by.findData(by)
        if index >= 0:
            self.by.setCurrentIndex(index)
        else:
            self.by.setEditText(by)
        self.changed.emit()

    def show_answer(self, answer: SplitResult | None) -> None:
        """Show what came of it."""
        given = answer is not None and answer.choice.by == GIVEN
        self.validation.setEnabled(not given)
        self.test.setEnabled(not given)
        self.table.show_rows(() if answer is None else answer.counts)
        self.message.say("" if answer is None else answer.problem, wrong=True)
        leaks = answer is not None and answer.leaks
        self.allow.setVisible(leaks or self.allow.isChecked())
        self.red.setVisible(leaks and self.allow.isChecked())

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Keep together", self.by)
        rows = more_rows(self.more)
        rows.addRow("Validation", self.validation)
        rows.addRow("Test", self.test)
        rows.addRow("Seed", self.seed)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 0, 0, 4)
        column.addLayout(form)
        for widget in (self.message, self.allow, self.red, self.table):
            column.addWidget(widget)


def _percent(value: int, hint: str) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(0, 80)
    spin.setSingleStep(5)
    spin.setSuffix(" %")
    spin.setValue(value)
    spin.setToolTip(hint)
    return spin
