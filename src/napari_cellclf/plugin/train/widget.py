"""The dock widget *Train*."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout

from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.shared.background import LatestTask
from napari_cellclf.plugin.shared.controls import DockedWidget, show_page, show_text
from napari_cellclf.plugin.shared.file_names import offer_to_read
from napari_cellclf.plugin.shared.messages import Refusal
from napari_cellclf.plugin.train.closing import CloseGuard
from napari_cellclf.plugin.train.data import MINUTES, FoundData
from napari_cellclf.plugin.train.data_steps import DataSteps
from napari_cellclf.plugin.train.form import TrainForm
from napari_cellclf.plugin.train.preset_page import preset_page
from napari_cellclf.plugin.train.preview import Preview, make_preview, show_preview
from napari_cellclf.plugin.train.request import (
    ModelSettings,
    TrainRequest,
    plan,
    settle,
    suggest_folder,
)
from napari_cellclf.plugin.train.run_steps import RunSteps

if TYPE_CHECKING:
    import napari

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig

_PAUSE_MS = 150
_PREVIEWING = "Making the preview (loading Keras takes some seconds)…"


class TrainWidget(DockedWidget):
    """Choose images, a split and a preset, press *Train*, watch, use the model."""

    #: A model that was trained is to be used; carries its name among the user's own, or its path.
    model_chosen = Signal(str)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer: napari.Viewer | None = napari_viewer
        self.form = TrainForm()
        self.data = DataSteps(self.form)
        self.run = RunSteps(self.form)
        self._suggested = ""
        self._preset_by_hand = False
        self._suggested_for: FoundData | None = None
        self._previewing = LatestTask(self)
        self._previewed: tuple[Dataset, TrainingConfig] | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.form)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        # Whatever is typed is checked once, after a pause.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_PAUSE_MS)
        self._soon.timeout.connect(self.refresh)
        self.guard = CloseGuard(self._folder_of_run, self.run.stop, self._let_go, self)
        offer_to_read()
        self._connect()
        self._on_preset()
        self.refresh()

    def refresh(self) -> None:
        """Check what stands in the form, and say what the button would do."""
        self._soon.stop()
        self.guard.watch(self)
        self._suggest_folder()
        settings, model = self._settings(), self.form.model
        self._forget_preview(settings)
        title = model.current().title
        if isinstance(settings, Refusal):
            model.message.say(settings.message, wrong=True)
        else:
            title += " (changed)" if settings.changed else ""
            if not self._previewing.running and model.message.is_wrong():
                model.message.say("")
        self.form.model_section.summarise(title)
        ready = self._ready_to_preview(settings) and not self._previewing.running
        model.preview.setEnabled(ready)
        self.run.offer(self._plan(settings))

    def preview(self) -> bool:
        """Do what the button *Preview augmentation* does."""
        settings, split = self._settings(), self.data.split
        if split is None or split.dataset is None or isinstance(settings, Refusal):
            return False
        dataset, config = self._previewed = split.dataset, settings.config
        self._previewing.start(lambda ticket: make_preview(dataset, config, ticket))
        self.form.model.message.say(_PREVIEWING)
        self.form.model.preview.setEnabled(False)
        return True

    def use_model(self) -> bool:
        """Hand over the model that was trained."""
        run = self.run.follower.run
        if run is None or not run.is_finished:
            return False
        self.model_chosen.emit(self.run.own_model or str(run.bundle))
        return True

    def shut_down(self) -> None:
        """Let go of everything; a run that is going on goes on, and that is said."""
        folder = self._folder_of_run()
        self._let_go()
        if folder is not None:
            from napari.utils.notifications import show_info

            show_info(f"The training in {folder} continues; open Train again to follow it.")

    def _connect(self) -> None:
        model = self.form.model
        model.changed.connect(self._soon.start)
        model.preset_changed.connect(self._on_preset)
        model.preview.clicked.connect(self.preview)
        model.why.clicked.connect(self._show_preset)
        self.form.data.details.clicked.connect(self._show_details)
        self.form.run.result.use.clicked.connect(self.use_model)
        model.preset.activated.connect(self._on_preset_chosen)
        self.data.changed.connect(self._on_data)
        self.run.changed.connect(self.refresh)
        self._previewing.done.connect(self._on_preview)
        self._previewing.failed.connect(self._on_no_preview)

    def _let_go(self) -> None:
        self._viewer = None
        self.guard.let_go()
        self._soon.stop()
        self._previewing.stop()
        self.data.shut_down()
        self.run.shut_down()

    def _settings(self) -> ModelSettings | Refusal:
        return settle(self.form.model.entries(), self.form.split.seed.value())

    def _plan(self, settings: ModelSettings | Refusal) -> TrainRequest | Refusal:
        return plan(self.data.found, self.data.split, settings, self.form.run.folder.path())

    def _ready_to_preview(self, settings: ModelSettings | Refusal) -> bool:
        split = self.data.split
        ready = split is not None and split.dataset is not None
        return ready and isinstance(settings, ModelSettings)

    def _forget_preview(self, settings: ModelSettings | Refusal) -> None:
        """Wait no more for a preview of other images or settings, and say nothing of it."""
        if self._previewed is None:
            return
        dataset, config = self._previewed
        split = self.data.split
        same = isinstance(settings, ModelSettings) and settings.config == config
        if split is None or split.dataset is not dataset or not same:
            self._previewed = None
            self._previewing.stop()
            self.form.model.message.say("")

    def _suggest_folder(self) -> None:
        """Fill in a new folder, unless the user wrote one or it is in use."""
        found, field = self.data.found, self.form.run.folder
        if found is None or self.run.follower.run is not None or self.run.active:
            return
        if field.path() in ("", self._suggested):
            self._suggested = str(suggest_folder(found, self.form.model.current().name))
            if field.path() != self._suggested:
                field.set_path(self._suggested)

    def _folder_of_run(self) -> str | None:
        """Return the folder of the run that is going on; None while none is."""
        run = self.run.follower.run
        return str(run.path) if run is not None and self.run.follower.active else None

    def _on_preset_chosen(self) -> None:
        self._preset_by_hand = True

    def _on_data(self) -> None:
        """Choose the preset that suits the pixels, unless the user chose one."""
        found = self.data.found
        if found is not None and found is not self._suggested_for and not self._preset_by_hand:
            self._suggested_for = found
            if found.preset:
                self.form.model.choose(found.preset)
        self.refresh()

    def _on_preset(self) -> None:
        kept = self.form.model.current().data
        minutes = tuple(kept.get("minutes", MINUTES))
        self.data.hint(int(kept.get("every", 1)), (int(minutes[0]), int(minutes[1])))

    def _show_details(self) -> None:
        show_text(self, "What is in the images", self.data.report)

    def _show_preset(self) -> None:
        preset = self.form.model.current()
        file = files("napari_cellclf") / "resources" / "presets" / f"{preset.name}.toml"
        page = preset_page(file.read_text(encoding="utf-8"))
        show_page(self, f"The preset {preset.name}", page)

    def _on_preview(self, preview: Preview) -> None:
        self.form.model.message.say("")
        self.refresh()
        if self._viewer is None:
            return
        show_preview(self._viewer, preview)
        self.form.model.message.say(
            f"{counted(len(preview.prepared), 'image')}: on the left as they are, on the right "
            f"{preview.augmented.shape[1]} variants of each. The sliders go through both."
        )

    def _on_no_preview(self, message: str) -> None:
        self.refresh()
        self.form.model.message.say(message, wrong=True)
