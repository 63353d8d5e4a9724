"""What is said of all results: counts, the confusion matrix, and why images have no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from qtpy.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.gallery.class_tables import ConfusionTable, CountsTable
from napari_cellclf.plugin.gallery.predicted_rows import PredictedRows
from napari_cellclf.plugin.shared.controls import Section, WrappedLabel, tab_downwards, wide_combo

#: A field with more values is no group.
_MOST_GROUPS = 1_000
_REASONS_HEIGHT = 110


class ResultsOverview(QWidget):
    """Stands above the gallery of results; its numbers choose what the gallery shows."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.summary = WrappedLabel()
        #: Images without a result, a line each that ends with the reason.
        self.reasons = QPlainTextEdit()
        self.reasons.setReadOnly(True)
        self.reasons.setTabChangesFocus(True)
        self.reasons.setFixedHeight(_REASONS_HEIGHT)
        self.failed_section = Section("Not classified", self.reasons, open=False)
        self.group = wide_combo("What the rows of the table of counts are.")
        self.counts = CountsTable()
        self.confusion = ConfusionTable()
        self.confusion_section = Section("Confusion matrix", self.confusion, open=False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (
            self.summary,
            self.failed_section,
            self.group,
            self.counts,
            self.confusion_section,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        tab_downwards(self.tab_stops)

    @property
    def tab_stops(self) -> list[QWidget]:
        """What the Tab key goes through, as it is seen from the top."""
        failed, mistaken = self.failed_section.heading, self.confusion_section.heading
        return [failed, self.reasons, self.group, self.counts, mistaken, self.confusion]

    def show_rows(self, rows: PredictedRows | None) -> None:
        """Show how many rows there are of each class, and what was mistaken for what."""
        self.counts.setEnabled(rows is not None)
        self.group.setEnabled(rows is not None)
        self.confusion_section.setVisible(rows is not None and rows.has_known)
        if rows is None:
            self.summary.setText("Classify images, and their predictions are shown here.")
            self.counts.show_counts(np.zeros((0, 3), np.int64), (), ())
            return
        self.summary.setText(rows.summary())
        self.show_counts(rows)
        self.confusion.show_matrix(rows.confusion(), rows.classes)
        self.confusion_section.summarise(counted(int(rows.wrong.sum()), "mistake"))

    def show_counts(self, rows: PredictedRows) -> None:
        """Show how many rows there are of each class, by the groups that they have."""
        sure, *apart = rows.counts()
        table, names = [[*sure.tolist(), *apart]], ["all"]
        for name, by_class, unsure, unlike in rows.counts_by_group():
            names.append(name)
            table.append([*by_class.tolist(), unsure, unlike, 0])
        self.counts.show_counts(np.array(table, np.int64), names, rows.classes)

    def show_failures(self, failures: Mapping[str, str]) -> None:
        """Show by their ids which images have no result, and why."""
        self.failed_section.setVisible(bool(failures))
        self.failed_section.summarise(f"{counted(len(failures), 'image')}, and why")
        # Most reasons begin with the image's path.
        names = {one: Path(one).name for one in failures}
        named = [(name, failures[one].replace(one, name)) for one, name in names.items()]
        lines = [why if name in why else f"{name}: {why}" for name, why in named]
        self.reasons.setPlainText("\n".join(lines))

    def offer_groups(self, collection: Collection | None) -> None:
        """Offer to count by each field that makes groups."""
        self.group.clear()
        self.group.addItem("Counts of all", None)
        for name in () if collection is None else collection.field_names:
            values = collection.values(name) if collection is not None else ()
            if 1 < len({str(value) for value in values}) <= _MOST_GROUPS:
                self.group.addItem(f"Counts by {name}", name)

    def let_go(self) -> None:
        """Let go of the numbers that were chosen, without telling of it."""
        self.counts.let_go()
        self.confusion.let_go()
