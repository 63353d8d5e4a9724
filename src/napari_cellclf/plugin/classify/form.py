"""How the widget is laid out, downwards; it decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.model_picker import ModelPicker
from napari_cellclf.plugin.classify.models.part import ModelsPart
from napari_cellclf.plugin.classify.request import Sources
from napari_cellclf.plugin.classify.results_view import ResultsView
from napari_cellclf.plugin.classify.why import WhyBar
from napari_cellclf.plugin.gallery.results_page import ResultsPage
from napari_cellclf.plugin.shared.controls import (
    CommandLine,
    Footer,
    MessageLine,
    NameLabel,
    Section,
    WrappedLabel,
    fill_with_scroll_area,
    plain_hint,
    small_label,
    tab_downwards,
    tab_in_order,
    wide_combo,
)
from napari_cellclf.plugin.shared.naming_field import NamingField
from napari_cellclf.plugin.shared.path_field import PathField, masks_field

LAYERS_TAB, FOLDER_TAB, ROWS_TAB = range(3)
#: By when Qt has laid out what was shown.
_LAID_OUT_MS = 50
#: How often it is looked whether there is room to scroll.
_TRIES = 10
#: The most of the height that numbers take from the images below them: one in so many.
_NUMBERS = 3


class ClassifyForm(QWidget):
    """Model, all models, image or folder, channels, button, progress, predictions, downwards."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ModelPicker()
        self.model_summary = small_label()
        self.models = ModelsPart()
        self.models_section = Section("Models", self.models, open=False)
        self.image = wide_combo("The open image to classify; select its layers.")
        self.axis = wide_combo("The axis of the layer that holds the channels.")
        self.objects = wide_combo("The layer whose objects are classified, one by one.")
        self.channels = ChannelForm()
        self.folder = PathField(
            "folder, or CSV table with a path column", "Choose images", file="CSV table"
        )
        self.naming = NamingField()
        self.masks = masks_field()
        self.tabs = QTabWidget()
        self.message = MessageLine()
        self.classify = QPushButton("Classify")
        self.cancel = QPushButton("Cancel")
        self.progress = QProgressBar()
        self.results = ResultsView()
        self.page = ResultsPage()
        # One choice, wherever it is shown.
        self.results.sets.toggled.connect(self.page.sets.setChecked)
        self.page.sets.toggled.connect(self.results.sets.setChecked)
        self.why = WhyBar()
        self.rows = WrappedLabel()
        self.command = CommandLine()
        self._tries = 0
        self._moved = False
        self._scrolling = QTimer(self)
        self._scrolling.setSingleShot(True)
        self._scrolling.setInterval(_LAID_OUT_MS)
        self._scrolling.timeout.connect(self._scroll)
        self._lay_out()

    def show_axis(self, visible: bool) -> None:
        """Show or hide the question which axis holds the channels."""
        self._layers_form.setRowVisible(self.axis, visible)

    def show_rows(self, text: str) -> None:
        """Say which rows are open in the bench; an empty text hides them."""
        self.rows.setText(text)
        self.tabs.setTabVisible(ROWS_TAB, bool(text))

    def show_objects(self, visible: bool) -> None:
        """Show or hide the choice of objects."""
        self._layers_form.setRowVisible(self.objects, visible)

    def show_answer(self) -> None:
        """Scroll to what was predicted, once it is laid out; the question is above it."""
        self._tries = _TRIES
        self._scrolling.start()

    def _leave_room(self) -> None:
        """Give the images the room that the numbers above them do not need, unless moved."""
        above, *rest = self._parts.sizes()
        needed = self.page.overview.sizeHint().height()
        spare = above - min(needed, (above + sum(rest)) // _NUMBERS)
        if not self._moved and self.page.isVisibleTo(self) and spare > 0:
            self._parts.setSizes([above - spare, 0, rest[-1] + spare])

    def _on_moved(self) -> None:
        self._moved = True

    def _scroll(self) -> None:
        self._leave_room()
        part = self.page.overview if self.page.overview.isVisibleTo(self) else self.results
        bar = self._area.verticalScrollBar()
        if bar is not None:
            bar.setValue(part.y())
            self._tries -= 1
            # A busy computer lays things out later.
            if bar.value() < part.y() and self._tries:
                self._scrolling.start()

    def show_masks(self, visible: bool) -> None:
        """Show or hide the question where the masks of a folder's images are."""
        self._folder_form.setRowVisible(self.masks, visible)

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(self._model_rows())
        column.addWidget(self.models_section)
        column.addWidget(self._input_tabs())
        column.addWidget(self.results)
        column.addWidget(self.page.overview)
        column.addWidget(self.command)
        column.addStretch(0)
        self.cancel.setEnabled(False)
        self.progress.setVisible(False)
        footer = Footer(self.message, [self.classify, self.cancel], self.progress)
        above = QWidget()
        self._area = fill_with_scroll_area(above, inner)
        # Tables and galleries scroll by themselves: inside of what scrolls, nobody finds their end.
        self._parts = QSplitter(Qt.Orientation.Vertical)
        self._parts.setChildrenCollapsible(False)
        self._parts.splitterMoved.connect(self._on_moved)
        for number, part in enumerate((above, self.results.table, self.page)):
            self._parts.addWidget(part)
            self._parts.setStretchFactor(number, 1 if number else 0)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(self._parts, 1)
        outer.addWidget(self.why)
        outer.addWidget(footer)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        above_table = [*self.page.overview.tab_stops, *self.command.tab_stops]
        below = [self.results.table, *self.page.tab_stops]
        below += [self.why.button, self.why.class_name, self.classify, self.cancel]
        tab_downwards([*self.results.tab_stops, *above_table, *below])

    def _model_rows(self) -> QFormLayout:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Model", self.model)
        form.addRow("", self.model_summary)
        return form

    def _input_tabs(self) -> QTabWidget:
        layers, folder, rows = QWidget(), QWidget(), QWidget()
        self._layers_form = QFormLayout(layers)
        self._layers_form.addRow("Image", self.image)
        self._layers_form.addRow("Channel axis", self.axis)
        self._layers_form.addRow("Objects", self.objects)
        self._layers_form.addRow(self.channels)
        self._folder_form = QFormLayout(folder)
        self._folder_form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._folder_form.addRow("Folder", self.folder)
        self._folder_form.addRow("Masks", self.masks)
        self._folder_form.addRow("File names", self.naming)
        self.show_masks(False)
        self.tabs.addTab(layers, "Open image")
        self.tabs.addTab(folder, "Folder")
        QVBoxLayout(rows).addWidget(self.rows)
        self.tabs.addTab(rows, "From Images")
        self.show_rows("")
        self.tabs.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        return self.tabs


_NONE = "— none —"


class ChannelForm(QWidget):
    """A combo box for each channel that the model expects, filled in and open to change.

    Folded away under one line where nothing has to be said about it.
    """

    #: The user chose another channel.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._boxes: list[QComboBox] = []
        self._header = QToolButton()
        self._header.setCheckable(True)
        self._header.setAutoRaise(True)
        self._header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self._header.setToolTip("Map image channels to model channels.")
        self._header.toggled.connect(self.unfold)
        self._body = QWidget()
        self._order = QPushButton("Match in order")
        self._order.setToolTip(
            "The first channel of the image, or the lowest selected layer, is the model's first "
            "channel, the next one its second, and so on."
        )
        self._order.clicked.connect(self.use_in_order)
        inside = QVBoxLayout(self._body)
        inside.setContentsMargins(12, 0, 0, 0)
        inside.addWidget(self._order)
        self._form = QFormLayout()
        inside.addLayout(self._form)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._header)
        column.addWidget(self._body)
        self.unfold(False)

    def fill(
        self, expected: Sequence[ChannelSpec], available: Sequence[str], sources: Sources
    ) -> None:
        """Show a mapping."""
        while self._form.rowCount():
            self._form.removeRow(0)
        self._boxes = []
        for spec, source in zip(expected, sources, strict=True):
            box = _channel_box(spec, available, source)
            box.currentIndexChanged.connect(self._on_change)
            self._boxes.append(box)
            self._form.addRow(NameLabel(spec.name), box)
        tab_in_order(self._header, [self._order, *self._boxes])
        names = tuple(available)
        self._order.setVisible(1 < len(expected) == len(names) and None in sources)
        self._set_title()

    def unfold(self, wide: bool) -> None:
        """Show the combo boxes, or only the line that sums them up."""
        self._header.setChecked(wide)
        self._body.setVisible(wide)
        self._set_title()

    def is_unfolded(self) -> bool:
        """Whether the combo boxes are shown."""
        return bool(self._header.isChecked())

    def sources(self) -> Sources:
        """Return the mapping as it is shown."""
        return tuple(box.currentData() for box in self._boxes)

    def box(self, index: int) -> QComboBox:
        """Return the combo box of one of the model's channels."""
        return self._boxes[index]

    def use_in_order(self) -> None:
        """Take the image's channels for the model's, one after the other."""
        for index, box in enumerate(self._boxes):
            with QSignalBlocker(box):
                box.setCurrentIndex(box.findData(index))
        self._on_change()

    def _on_change(self) -> None:
        self._set_title()
        self.changed.emit()

    def _set_title(self) -> None:
        chosen = [source for source in self.sources() if source is not None]
        sign = "▼" if self.is_unfolded() else "▶"
        # A channel that is used twice was found once.
        found = f"{len(set(chosen))} of {len(self._boxes)} found"
        twice = ", some used twice" if len(set(chosen)) < len(chosen) else ""
        self._header.setText(f"{sign}  Channels: {found}{twice}")


def _channel_box(spec: ChannelSpec, available: Sequence[str], source: int | None) -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setToolTip(plain_hint(f"Which channel of the image is {spec.name}."))
    # A channel that the model cannot do without has no "none" to choose, only to begin with.
    if not spec.required:
        box.addItem(_NONE, None)
    elif source is None:
        box.addItem("choose…", None)
    for index, name in enumerate(available):
        box.addItem(name, index)
    box.setCurrentIndex(max(box.findData(source), 0) if source is not None else 0)
    return box
