"""How the widget is laid out; it decides nothing."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cellclf.plugin.shared.controls import Section, fill_with_scroll_area
from napari_cellclf.plugin.train.data_form import DataForm
from napari_cellclf.plugin.train.model_form import ModelForm
from napari_cellclf.plugin.train.run_form import RunForm
from napari_cellclf.plugin.train.split_form import SplitForm


class TrainForm(QWidget):
    """Three choices (images, what is kept together, preset), all others folded away, the run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.data = DataForm()
        self.split = SplitForm()
        self.model = ModelForm()
        self.run = RunForm()
        self.data_section = Section("1  Data", self.data)
        self.split_section = Section("2  Split", self.split)
        self.model_section = Section("3  Model", self.model)
        self.advanced_section = Section("Advanced", self._advanced(), open=False)
        self.run_section = Section("4  Run", self.run)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 6, 6)
        for section in self.sections:
            column.addWidget(section)
        column.addStretch(1)
        self.area = fill_with_scroll_area(self, inner, self.run.footer)

    @property
    def sections(self) -> tuple[Section, ...]:
        """All parts, from top to bottom."""
        return (*self.choices, self.run_section)

    @property
    def choices(self) -> tuple[Section, ...]:
        """The parts in which something is chosen."""
        return self.data_section, self.split_section, self.model_section, self.advanced_section

    def fold_choices(self, away: bool) -> None:
        """Fold away what was chosen, so that the run is to be seen, or show it again."""
        for section in self.choices[:3]:
            section.unfold(not away)
        self.advanced_section.unfold(False)

    def _advanced(self) -> QWidget:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 0, 0, 4)
        for part in (self.data, self.split, self.model, self.run):
            column.addWidget(part.more)
        return inner
