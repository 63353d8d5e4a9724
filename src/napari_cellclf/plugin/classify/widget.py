"""The dock widget *Classify*."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.counting import counted
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CellclfError
from napari_cellclf.plugin.classify.choices import ImageChoice
from napari_cellclf.plugin.classify.form import FOLDER_TAB, ROWS_TAB, ClassifyForm
from napari_cellclf.plugin.classify.image_form import ImageForm
from napari_cellclf.plugin.classify.job import (
    ImageResult,
    Job,
    JobRunner,
    ModelProcess,
    Status,
    Summary,
)
from napari_cellclf.plugin.classify.objects import ObjectsChoice, ObjectsSource
from napari_cellclf.plugin.classify.objects_link import ObjectsLink
from napari_cellclf.plugin.classify.page_link import PageLink
from napari_cellclf.plugin.classify.request import (
    ClassifyRequest,
    folder_question,
    layers_question,
    plan,
    plan_collection,
    plan_folder,
    used_twice,
)
from napari_cellclf.plugin.classify.results import (
    Results,
    ResultsBook,
    canvas_text,
    failure_message,
    file_and_plane,
    layer_summary,
    save_table,
    summary_message,
)
from napari_cellclf.plugin.classify.viewer_link import ViewerLink
from napari_cellclf.plugin.classify.why import WhyLink
from napari_cellclf.plugin.shared.controls import DockedWidget
from napari_cellclf.plugin.shared.file_names import offer_to_read
from napari_cellclf.plugin.shared.messages import Refusal
from napari_cellclf.plugin.shared.path_field import ask_where_to_save
from napari_cellclf.plugin.shared.preferences import share_registries

if TYPE_CHECKING:
    import napari

#: Steps of the progress bar for one image.
_PARTS = 100


class ClassifyWidget(DockedWidget):
    """Choose a model and an image, press *Classify*, see the predicted class."""

    #: Labels with corrections are to be trained on; carries a `Label` by id and the collection.
    retrain_wanted = Signal(object, object)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.form = ClassifyForm()
        self.runner = JobRunner(self)
        self._image = ImageForm(self.form)
        self._link: ViewerLink | None = None
        self._objects: ObjectsLink | None = None
        self._why: WhyLink | None = None
        self._page = PageLink(self.form.page, self.form.results)
        self._collection: Collection | None = None
        #: The layers that its rows are of; None where they are of files.
        self._layers: ImageChoice | None = None
        self._model = ModelProcess()
        self._book = ResultsBook()
        self._shown: Results | None = None
        self._request: ClassifyRequest | Refusal = Refusal("")
        self._started = 0.0
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.form)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        # Six layers that are added at once ask for one refresh, not for six.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self.refresh)
        self._connect()
        link = ViewerLink(napari_viewer, self._soon.start, self._show_prediction)
        self._link = link
        self._objects = ObjectsLink(self.form.results.objects, link)
        self._objects.picked.connect(self._on_picked)
        self._why = WhyLink(self.form.why, link, self._model)
        self._why.said.connect(self._on_why_said)
        self.destroyed.connect(link.disconnect)
        self.destroyed.connect(self._model.shut_down)
        share_registries()
        offer_to_read()
        self.refresh()

    def refresh(self) -> None:
        """Read the viewer's layers again and fill in the form."""
        if self._link is None:
            return
        self._link.remove_lost()
        layers, objects = self._link.layers(), self._link.object_layers()
        self._book.forget_others([*(one.key for one in layers), *(one.key for one in objects)])
        self._image.refresh(layers, objects, self._link.selected(), self.form.model.current())
        self._on_form()

    def _catch_up(self) -> None:
        """Do now what was left for soon, so that its message does not replace the next one."""
        if self._soon.isActive():
            self._soon.stop()
            self.refresh()

    def show_collection(
        self,
        collection: Collection | None,
        book: LabelBook | None = None,
        layers: ImageChoice | None = None,
    ) -> None:
        """Offer the rows that are open in the bench.

        `book`: their labels, for corrections. `layers`: what the rows are of, unless of files.
        """
        self._collection, self._page.book, self._layers = collection, book, layers
        text = ""
        if collection is not None and len(collection):
            text = f"{counted(len(collection), collection.noun)} of {collection.title}"
        self.form.show_rows(text)
        if text:
            self.form.tabs.setCurrentIndex(ROWS_TAB)
        self._on_form()

    def classify(self) -> bool:
        """Do what the button does."""
        if self.runner.running:
            self._say("A classification is running; press Cancel to start another.", wrong=True)
            return False
        self._soon.stop()
        self.refresh()
        request = self._request
        if isinstance(request, Refusal):
            self._say(request.message, wrong=True)
            return False
        arrays = self._arrays(request)
        if arrays is None:
            self._say("The image was removed; choose another one.", wrong=True)
            return False
        self._start(Job(request, arrays, self._model, self._source(request)))
        return True

    def save_csv(self, results: Results, path: str) -> bool:
        """Write predictions as a CSV table."""
        try:
            save_table(results, path, sets=self.form.results.sets.isChecked())
        except (CellclfError, OSError) as error:
            self._say(f"The table was not saved: {error}", wrong=True)
            return False
        self._say(f"Saved {counted(len(results.records), 'row')} to {path}.")
        return True

    def shut_down(self) -> None:
        """Stop working and let go of the viewer: the widget was closed."""
        self.runner.stop()
        self._page.close()
        if self._why is not None:
            self._why.stop()
            self._why = None
        self.form.models.shut_down()
        self.form.naming.shut_down()
        self._model.shut_down()
        self._soon.stop()
        if self._objects is not None:
            self._objects.close()
            self._objects = None
        if self._link is not None:
            self._link.disconnect()
            self._link = None

    def _connect(self) -> None:
        form, runner = self.form, self.runner
        form.model.changed.connect(self.refresh)
        form.model.failed.connect(self._on_model_failed)
        form.model.listed_again.connect(self._on_models_changed)
        form.models.chosen.connect(self._on_model_chosen)
        form.models.connected.connect(form.model.add)
        form.models.listed.connect(form.models_section.summarise)
        form.models_section.unfolded.connect(self._on_models_unfolded)
        form.tabs.currentChanged.connect(self._on_form)
        form.folder.changed.connect(self._on_folder)
        form.naming.changed.connect(self._on_form)
        form.masks.changed.connect(self._on_form)
        form.classify.clicked.connect(self.classify)
        form.cancel.clicked.connect(self._on_cancel)
        form.results.row_chosen.connect(self._on_row_chosen)
        form.results.save_wanted.connect(self._on_save)
        form.results.open_wanted.connect(self._on_open)
        form.why.asked.connect(self._on_why)
        form.page.save_wanted.connect(self._on_save)
        form.page.row_activated.connect(self._on_open_row)
        form.page.retrain_wanted.connect(self._on_retrain)
        self._page.failed.connect(self._on_model_failed)
        self._page.shown.connect(form.show_answer)
        form.results.objects.again_wanted.connect(self.classify)
        self._image.changed.connect(self._on_form)
        runner.status.connect(self._on_status)
        runner.progress.connect(self._on_progress)
        runner.row.connect(self._on_row)
        runner.ended.connect(self._on_ended)
        runner.failed.connect(self._on_failed)

    def _on_folder(self) -> None:
        self.form.naming.show_folder(self.form.folder.path())
        self._on_form()

    def _plan(self) -> ClassifyRequest | Refusal:
        model = self.form.model.current()
        if self.form.tabs.currentIndex() == FOLDER_TAB:
            form = self.form
            return plan_folder(model, form.folder.path(), form.naming.naming(), form.masks.path())
        if self.form.tabs.currentIndex() == ROWS_TAB:
            return plan_collection(model, self._collection)
        image = self._image
        return plan(model, image.choice(), image.sources(), image.proposed(), image.objects())

    def _question(self) -> Hashable:
        """Identify what the form asks, also where it cannot be done now."""
        model, form = self.form.model.current(), self.form
        if form.tabs.currentIndex() == FOLDER_TAB:
            return folder_question(
                model, form.folder.path(), form.naming.naming(), form.masks.path()
            )
        if form.tabs.currentIndex() == ROWS_TAB:
            return model, self._collection
        objects = self._image.objects()
        return layers_question(
            model,
            self._image.choice(),
            self._image.sources(),
            objects if isinstance(objects, ObjectsChoice) else None,
        )

    def _arrays(self, request: ClassifyRequest) -> tuple[object, ...] | None:
        if request.image is None:
            return ()
        return None if self._link is None else self._link.arrays(request.image)

    def _source(self, request: ClassifyRequest) -> ObjectsSource | None:
        if request.objects is None or request.image is None or self._link is None:
            return None
        return self._link.objects_source(request.objects, request.image)

    def _start(self, job: Job) -> None:
        self._book.begin(Results(job.request, source=job.objects))
        self._started = time.perf_counter()
        self._set_running(True)
        self._show_prediction()
        self.runner.start(job)

    def _set_running(self, running: bool) -> None:
        self.form.classify.setEnabled(not running)
        self.form.cancel.setEnabled(running)
        self.form.why.setEnabled(not running)
        if self._why is not None:
            # Both would ask the same process.
            self._why.stop()
        self.form.progress.setVisible(running)
        self.form.progress.setRange(0, 0)
        if not running:
            self.form.classify.setEnabled(not isinstance(self._request, Refusal))

    def _on_form(self) -> None:
        """Say how things stand, unless a job is telling."""
        model = self.form.model.current()
        self.form.model_summary.setText("" if model is None else model.summary)
        self.form.show_masks(model is not None and model.object_crop is not None)
        self._book.orphan = None
        self._show_prediction()
        self._request = request = self._plan()
        if self.runner.running:
            return
        refused = isinstance(request, Refusal)
        self.form.classify.setEnabled(not refused)
        if isinstance(request, Refusal):
            self._say(request.message)
        elif request.image is not None:
            twice = used_twice(request.model, request.image, request.sources)
            self._say(twice or self._image.note, wrong=bool(twice))
        else:
            self._say("")

    def _on_model_failed(self, message: str) -> None:
        self._say(message, wrong=True)

    def _on_model_chosen(self, name: str) -> None:
        self.form.model.reload(name)

    def _on_models_changed(self) -> None:
        if self.form.models_section.is_unfolded():
            self.form.models.refresh()

    def _on_models_unfolded(self, unfolded: bool) -> None:
        if unfolded:
            self.form.models.refresh()

    def _on_cancel(self) -> None:
        self.runner.stop()
        if not self.form.progress.maximum():
            # Nothing is being classified yet: there is nothing to wait for.
            self._model.close()
        self.form.cancel.setEnabled(False)
        self._say("Stopping after the current images…")

    def _on_status(self, status: Status) -> None:
        self._say(status.text)

    def _on_progress(self, progress: Progress) -> None:
        # A large image, or one of many objects, is a step that takes long.
        self.form.progress.setRange(0, progress.total * _PARTS)
        self.form.progress.setValue(round((progress.done + progress.part) * _PARTS))

    def _on_row(self, row: ImageResult) -> None:
        results = self._book.running
        if results is None:
            return
        results.rows.append(row)
        if results is self._shown:
            self.form.results.grow(results)
        if self._number(results) == len(results.rows) - 1:
            self._show_prediction()

    def _on_ended(self, summary: Summary) -> None:
        seconds = time.perf_counter() - self._started
        self._catch_up()
        running = self._book.running
        removed = running is not None and not self._write(running)
        results = self._book.end(removed=removed)
        self.form.results.catch_up()
        self._set_running(False)
        self._show_prediction()
        if results is not None:
            text = summary_message(
                results, summary, seconds, removed=removed, shown=results is self._shown
            )
            self._say(text, wrong=bool(summary.failed) or removed)
            self.form.show_answer()

    def _on_failed(self, message: str) -> None:
        self._catch_up()
        results = self._book.fail()
        self.form.results.catch_up()
        if results is not None and results.rows:
            self._write(results)
        self._set_running(False)
        self._show_prediction()
        shown = results is self._shown
        self._say(failure_message(results, message, shown=shown), wrong=True)

    def _write(self, results: Results) -> bool:
        """Write predictions into the layers; False if the image is no longer what it was."""
        image = results.request.image
        if image is None:
            return True
        if self._link is None:
            return False
        if self._objects is not None and results.of_objects:
            there = len(self._link.intact(image)) == len(image.layers)
            return self._objects.write(results, self._link.position(image)) and there
        intact = self._link.intact(image)
        self._link.write_metadata(intact, layer_summary(results))
        return len(intact) == len(image.layers)

    def _on_row_chosen(self, number: int) -> None:
        results = self._shown
        if results is None:
            return
        position = results.position(number)
        if results.request.image is not None and position is not None and self._link is not None:
            self._link.go_to(results.request.image, position)
        if results.of_objects and self._objects is not None:
            self._objects.select(results, number)
        self.form.results.show_row(results, number)

    def _on_picked(self, number: int) -> None:
        """Show an object that was picked in the viewer, in the table, too."""
        if self._shown is not None:
            self.form.results.show_row(self._shown, number)
            self._show_prediction()

    def _on_open(self, number: int) -> None:
        """Open the image of a row of a folder."""
        results = self._shown
        if results is not None:
            path, plane = file_and_plane(str(results.rows[number].record["image"]))
            self._show_row(Row(str(path), tuple(plane.items())), results)

    def _on_open_row(self, number: int) -> None:
        """Open the image of a row of the page of results, at its object if it is one."""
        results = self._shown
        if results is not None and results.collection is not None:
            self._show_row(results.collection.rows[number], results)

    def _show_row(self, row: Row, results: Results) -> bool:
        if self._link is None:
            return False
        try:
            of_open = results.collection is self._collection
            self._link.show_row(row, results.request.naming, self._layers if of_open else None)
        except (CellclfError, OSError) as error:
            self._say(f"The image was not opened: {error}", wrong=True)
            return False
        return True

    def _on_why(self, class_name: str) -> None:
        """Look for the evidence in what is selected, which is opened if need be."""
        results, collection = self._shown, None if self._shown is None else self._shown.collection
        if results is None or self._why is None:
            return
        of_files = results.request.image is None
        number = self.form.page.current() if of_files else self._number(results)
        if number is None or (of_files and collection is None):
            image = results.request.image
            unseen = self._link.why_not_seen(image) if image and self._link else ""
            words = unseen or f"Select the {results.noun} to be explained first."
            self._say(words, wrong=True)
        elif collection is None:
            self._why.ask_layers(results, number, class_name)
        elif self._show_row(collection.rows[number], results):
            self._why.ask_row(results, number, class_name)

    def _on_why_said(self, text: str, wrong: bool) -> None:
        self._catch_up()
        self._say(text, wrong=wrong)

    def _on_retrain(self, labels: object) -> None:
        if self._shown is not None:
            self.retrain_wanted.emit(labels, self._shown.collection)

    def _on_save(self) -> None:
        results = self._shown
        if results is not None:
            # Whatever is chosen while the dialog is open: it was asked for these.
            ask_where_to_save(
                self,
                "Save the table",
                lambda path: self.save_csv(results, path),
                "predictions.csv",
            )

    def _show_prediction(self) -> None:
        """Show what is known of the plane that is looked at, on the canvas too."""
        results = self._book.find(self._question())
        if results is not self._shown:
            self._shown = results
            self.form.results.show_results(results)
        running = results is not None and results is self._book.running
        if self._objects is not None and self._link is not None:
            image = None if results is None else results.request.image
            self._objects.watch(results, running)
            self._objects.show_plane(None if image is None else self._link.position(image))
        self._page.show(results, running)
        self.form.why.show_classes(() if results is None else results.classes)
        number = None if results is None else self._number(results)
        self.form.results.show_row(results, number)
        self.form.command.show_command("" if results is None else results.request.command)
        if self._link is not None:
            lost = results is self._book.orphan
            self._link.show_text("" if lost else canvas_text(results, number))

    def _number(self, results: Results) -> int | None:
        """Return which row is looked at."""
        image = results.request.image
        if image is None:
            clicked = self.form.results.selected_row()
            return (clicked or 0) if results.rows else None
        position = None if self._link is None else self._link.position(image)
        if results.of_objects:
            clicked = self.form.results.selected_row()
            there = clicked is not None and results.position(clicked) == position
            return clicked if there or results is self._book.orphan else None
        if position is None:
            return 0 if results is self._book.orphan and results.rows else None
        return results.at(position)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self.form.message.say(text, wrong=wrong)
