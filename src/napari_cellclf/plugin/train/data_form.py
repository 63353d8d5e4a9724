"""The part of the form that chooses labelled images and shows what was found."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.shared.controls import MessageLine, small_label, wide_combo
from napari_cellclf.plugin.shared.messages import sentence
from napari_cellclf.plugin.shared.naming_field import NamingField
from napari_cellclf.plugin.shared.path_field import PathField
from napari_cellclf.plugin.train.count_table import CountTable
from napari_cellclf.plugin.train.data import MINUTES, FoundData

_LAST_MINUTE = 1000


class DataForm(QWidget):
    """Path, what to learn, which minutes, and a table of the classes."""

    #: The user chose other images.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.path = PathField(
            "folder of images, or a CSV table", "Choose labelled images", file="CSV table"
        )
        self.naming = NamingField()
        self.label = wide_combo("Which column the classifier learns to tell.")
        self.first, self.last = _spin(MINUTES[0], "from this minute"), _spin(MINUTES[1], "to")
        self.every = _spin(1, "every n-th minute is a class", lowest=1)
        self.message = MessageLine()
        self.summary = small_label()
        self.table = CountTable(["images"])
        self.group = small_label()
        self.warnings = small_label()
        self.inspecting = small_label()
        #: What is changed seldom, to be shown among the advanced choices.
        self.more = QWidget()
        self.details = QPushButton("Full report…")
        self.details.setToolTip("What was found out about the images: files, groups, duplicates.")
        self._lay_out()
        self.path.changed.connect(self._on_path)
        self.naming.changed.connect(self.changed)
        self.label.currentIndexChanged.connect(self.changed)
        for spin in (self.first, self.last, self.every):
            spin.valueChanged.connect(self.changed)
        self.show_found(None)

    def minutes(self) -> tuple[int, int]:
        """Return the range of minutes."""
        return self.first.value(), self.last.value()

    def set_minutes(self, every: int, minutes: tuple[int, int]) -> None:
        """Fill in which minutes to keep, without telling."""
        for spin, value in ((self.every, every), (self.first, minutes[0]), (self.last, minutes[1])):
            with QSignalBlocker(spin):
                spin.setValue(value)

    def chosen_label(self) -> str | None:
        """Return the column to learn, None where the usual one is."""
        return self.label.currentData() if self.label.count() else None

    def show_found(self, found: FoundData | None) -> None:
        """Show what was found."""
        self._show_labels(found)
        self._more_rows.setRowVisible(self._minutes, found is not None and found.has_minutes)
        for widget in (self.summary, self.group, self._below):
            widget.setVisible(found is not None)
        self.show_inspection("", ())
        if found is None:
            self.table.show_rows(())
            return
        data = found.dataset
        self.summary.setText(f"{found.summary}: {data.source}")
        counts = data.counts().sum(axis=1)
        self.table.show_rows([(str(name), (int(n),)) for name, n in counts.items()])
        kept = data.group_column or "nothing"
        mark = "" if data.group_column else "⚠ "
        self.group.setText(f"{mark}Kept together by {kept}: {data.group_reason}.")

    def show_inspection(self, progress: str, warnings: tuple[str, ...]) -> None:
        """Show how far the look at the files is, or what it found."""
        self.inspecting.setText(progress)
        # Why nothing is kept together stands above them already.
        others = [one for one in warnings if one not in self.group.text()]
        self.warnings.setText("\n".join(f"⚠ {sentence(warning)}" for warning in others))
        self.warnings.setVisible(bool(others))

    def _on_path(self) -> None:
        self.naming.show_folder(self.path.path())
        self.changed.emit()

    def _show_labels(self, found: FoundData | None) -> None:
        labels = () if found is None else found.labels
        self._rows.setRowVisible(self.label, bool(labels))
        with QSignalBlocker(self.label):
            self.label.clear()
            if found is None:
                return
            usual = found.usual_label
            for name in labels:
                self.label.addItem(name, None if name == usual else name)
            current = self.label.findText(found.question.label or usual)
            self.label.setCurrentIndex(max(current, 0))

    def _lay_out(self) -> None:
        self._minutes = QWidget()
        row = QHBoxLayout(self._minutes)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.first, QLabel("to"), self.last, QLabel("every"), self.every):
            row.addWidget(widget)
        row.addStretch(1)
        self._rows = QFormLayout()
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._rows.addRow("Images", self.path)
        self._rows.addRow("Learn", self.label)
        self._more_rows = more_rows(self.more)
        self._more_rows.addRow("File names", self.naming)
        self._more_rows.addRow("Minutes", self._minutes)
        self._below = QWidget()
        below = QHBoxLayout(self._below)
        below.setContentsMargins(0, 0, 0, 0)
        below.addWidget(self.inspecting, 1)
        below.addWidget(self.details, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 0, 0, 4)
        column.addLayout(self._rows)
        for part in (self.message, self.summary, self.table, self.group, self.warnings):
            column.addWidget(part)
        column.addWidget(self._below)


def more_rows(more: QWidget) -> QFormLayout:
    """Lay out choices that are shown among the advanced ones."""
    rows = QFormLayout(more)
    rows.setContentsMargins(0, 0, 0, 0)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return rows


def _spin(value: int, hint: str, *, lowest: int = 0) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(lowest, _LAST_MINUTE)
    spin.setValue(value)
    spin.setToolTip(hint)
    return spin
