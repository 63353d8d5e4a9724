"""The part of the form that chooses a model: bundled ones by name, others by their path."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from qtpy.QtCore import QFileSystemWatcher, QObject, QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QMenu, QPushButton, QWidget

from napari_cellclf.errors import CellclfError
from napari_cellclf.plugin.classify.request import ModelChoice
from napari_cellclf.plugin.shared.path_field import dropped_path

_PAUSE_MS = 300


class ModelPicker(QWidget):
    """A combo box of models, and a button to add one from disk."""

    #: Another model was chosen.
    changed = Signal()
    #: A model could not be used; carries one sentence.
    failed = Signal(str)
    #: Other models are there, by whatever program.
    listed_again = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAcceptDrops(True)
        self._box = QComboBox()
        self._box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._box.setMinimumContentsLength(14)
        self._box.setPlaceholderText("choose a model…")
        self._box.setToolTip("The model to classify with; drop a .cellclf model here to add it.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box, 1)
        row.addWidget(self._open_button())
        self._added: list[ModelChoice] = []
        self._fill("")
        self._box.currentIndexChanged.connect(self._on_change)
        self._folder = ModelsFolder(self)
        self._folder.changed.connect(self._on_folder)

    def current(self) -> ModelChoice | None:
        """Return the chosen model, None if there is none."""
        choice = self._box.currentData()
        return choice if isinstance(choice, ModelChoice) else None

    def references(self) -> list[str]:
        """Return the names, paths and addresses of all models that are listed."""
        return [self._box.itemData(index).reference for index in range(self._box.count())]

    def choose(self, reference: str) -> bool:
        """Choose a model, adding it if it is not listed yet."""
        listed = self.references()
        if reference in listed:
            self._box.setCurrentIndex(listed.index(reference))
            return True
        try:
            choice = describe_model(reference)
        except CellclfError as error:
            self.failed.emit(f"{error}")
            return False
        self.add(choice)
        return True

    def add(self, choice: ModelChoice) -> None:
        """List a model that has no name here, and choose it."""
        self._added = [one for one in self._added if one.reference != choice.reference]
        self._added.append(choice)
        self.reload(choice.reference)

    def reload(self, reference: str = "") -> None:
        """List the models again: one was fetched, imported or removed."""
        before = self.current()
        with QSignalBlocker(self._box):
            self._box.clear()
            self._fill(reference or ("" if before is None else before.reference))
            gone = before
            if reference or before is None or before.reference in self.references():
                gone = None
            else:
                # Another one in its place would soon be taken for it.
                self._box.setCurrentIndex(-1)
        # Also where the name is the same: another model may lie under it.
        if self.current() != before:
            self.changed.emit()
        if gone is not None:
            self.failed.emit(f"{gone.title} was removed; choose another model.")

    def _fill(self, reference: str) -> None:
        listed = named_models()
        known = {choice.reference for choice in listed}
        self._added = [one for one in map(_again, self._added) if one is not None]
        for choice in [*listed, *(one for one in self._added if one.reference not in known)]:
            self._box.addItem(choice.title, choice)
            if choice.reference == reference:
                self._box.setCurrentIndex(self._box.count() - 1)

    def dragEnterEvent(self, event: Any) -> None:
        """Take models that are dragged here."""
        if dropped_path(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Add the model that was dropped."""
        path = dropped_path(event)
        if path is not None:
            self.choose(path)

    def _open_button(self) -> QPushButton:
        button = QPushButton("Open…")
        button.setToolTip("Use a model from disk.")
        menu = QMenu(button)
        menu.addAction("Model folder (.cellclf)…", self._ask_for_folder)
        menu.addAction("Model file (.cellclf)…", self._ask_for_file)
        button.setMenu(menu)
        return button

    def _ask_for_folder(self) -> None:
        self._ask(QFileDialog.FileMode.Directory)

    def _ask_for_file(self) -> None:
        self._ask(QFileDialog.FileMode.ExistingFile)

    def _ask(self, mode: QFileDialog.FileMode) -> None:
        from napari_cellclf.plugin.shared.path_field import ask_for_path

        ask_for_path(self, "Choose a model", self.choose, mode=mode)

    def _on_change(self) -> None:
        self.changed.emit()

    def _on_folder(self) -> None:
        self.reload()
        self.listed_again.emit()


class ModelsFolder(QObject):
    """Tells when the user's models change: trained, fetched or removed, here or elsewhere."""

    #: Models came or went.
    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        from napari_cellclf.bundles.catalogue import models_folder

        folder = models_folder()
        # A folder that cannot be made changes no more either.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._watcher = QFileSystemWatcher(self)
        if folder.is_dir():
            self._watcher.addPath(str(folder))
        # A model is written beside its place and renamed: several changes are one.
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._watcher.directoryChanged.connect(self._pause.start)
        self._pause.timeout.connect(self.changed)


def named_models() -> list[ModelChoice]:
    """List the models that have names: the user's own and those of this package."""
    from napari_cellclf.bundles.catalogue import list_models

    return [describe_model(model.name) for model in list_models()]


def _again(choice: ModelChoice) -> ModelChoice | None:
    """Read a model's description again; None if it is no longer there."""
    if choice.is_remote:
        return choice
    try:
        return describe_model(choice.reference)
    except CellclfError:
        return None


def describe_model(reference: str) -> ModelChoice:
    """Read what the form needs of a model, without loading its network."""
    from napari_cellclf.bundles.bundle import read_spec
    from napari_cellclf.bundles.catalogue import find_model

    # The hashes of all files are checked when the model is loaded, off the GUI's thread.
    spec = read_spec(find_model(reference))
    title = spec.title or spec.name
    preprocessing = spec.input.preprocessing
    return ModelChoice(
        reference,
        title,
        preprocessing.channels,
        spec.class_names,
        fingerprint=spec.fingerprint,
        object_crop=preprocessing.object_crop,
        single_channel=spec.input.single_channel,
        prediction_sets=spec.prediction_sets,
    )
