"""Reads, inspects and divides the images as the form says, off the GUI's thread."""

from __future__ import annotations

from qtpy.QtCore import QObject, QTimer, Signal

from napari_cellclf.core.progress import Progress
from napari_cellclf.plugin.shared.background import LatestTask
from napari_cellclf.plugin.shared.messages import Refusal
from napari_cellclf.plugin.train.data import DataQuestion, FoundData, ask, find, inspect
from napari_cellclf.plugin.train.form import TrainForm
from napari_cellclf.plugin.train.request import SplitChoice, SplitResult, divide

#: So long nothing is typed before the images are read.
_PAUSE_MS = 350
_MOST_WARNINGS = 3


class DataSteps(QObject):
    """What is found follows the form."""

    #: Images or split are others now.
    changed = Signal()

    def __init__(self, form: TrainForm) -> None:
        super().__init__(form)
        self._data, self._split_form, self._form = form.data, form.split, form
        self.found: FoundData | None = None
        self.split: SplitResult | None = None
        self.report = ""
        self._question: DataQuestion | None = None
        self._choice: SplitChoice | None = None
        self._hint: tuple[int, tuple[int, int]] | None = None
        self._finding, self._dividing, self._inspecting = (LatestTask(self) for _ in range(3))
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self.read)
        self._connect()
        self._show_refusal(ask(""))

    @property
    def busy(self) -> bool:
        """Whether images are being read or divided, or will be in a moment."""
        waiting = self._pause.isActive()
        return waiting or self._finding.running or self._dividing.running

    @property
    def inspecting(self) -> bool:
        """Whether files are being looked at."""
        return self._inspecting.running

    def hint(self, every: int, minutes: tuple[int, int]) -> None:
        """Fill in the minutes that a preset keeps; they matter for embryos only."""
        if (every, minutes) == self._hint:
            return
        self._hint = every, minutes
        self._data.set_minutes(every, minutes)
        if self.found is not None and self.found.has_minutes:
            self.read()

    def read(self) -> None:
        """Read what the form says, unless that is what was read last."""
        self._pause.stop()
        data = self._data
        label = data.chosen_label() if self._same_path() else None
        question = ask(
            data.path.path(),
            label=label,
            every=data.every.value(),
            minutes=data.minutes(),
            naming=data.naming.naming(),
        )
        if isinstance(question, Refusal):
            self._forget()
            self._show_refusal(question)
            return
        if question == self._question:
            return
        self._forget()
        self._question = question
        data.message.say("Looking for images…")
        self._finding.start(lambda ticket: find(question))

    def shut_down(self) -> None:
        """Begin nothing more, and wait for nothing."""
        for task in (self._finding, self._dividing, self._inspecting):
            task.stop()
        self._pause.stop()
        self._data.naming.shut_down()

    def _connect(self) -> None:
        self._data.changed.connect(self._on_data)
        self._split_form.changed.connect(self._on_split_form)
        self._finding.done.connect(self._on_found)
        self._finding.failed.connect(self._on_not_found)
        self._dividing.done.connect(self._on_divided)
        self._dividing.failed.connect(self._on_not_divided)
        self._inspecting.done.connect(self._on_inspected)
        self._inspecting.failed.connect(self._on_not_inspected)
        self._inspecting.progress.connect(self._on_inspecting)

    def _same_path(self) -> bool:
        """Whether the form still shows the columns of what is in its path."""
        question = ask(self._data.path.path())
        return (
            isinstance(question, DataQuestion)
            and self.found is not None
            and self.found.question.path == question.path
        )

    def _forget(self) -> None:
        for task in (self._finding, self._dividing, self._inspecting):
            task.stop()
        self._question = self._choice = None
        self.found = self.split = None
        self.report = ""
        self._data.show_found(None)
        self._split_form.show_answer(None)
        self._form.data_section.summarise("")
        self._form.split_section.summarise("")
        self.changed.emit()

    def _show_refusal(self, question: DataQuestion | Refusal) -> None:
        empty = not self._data.path.path().strip()
        if isinstance(question, Refusal):
            self._data.message.say(question.message, wrong=not empty)

    def _on_data(self) -> None:
        self._pause.start()

    def _on_found(self, found: FoundData) -> None:
        self.found = found
        self._data.message.say("")
        self._data.show_found(found)
        self._form.data_section.summarise(found.summary)
        self._split_form.fill(found)
        self._on_split_form()
        self._data.details.setEnabled(False)
        self._inspecting.start(lambda ticket: inspect(found.dataset, ticket))
        self.changed.emit()

    def _on_not_found(self, message: str) -> None:
        self._data.message.say(message, wrong=True)
        self.changed.emit()

    def _on_split_form(self) -> None:
        choice, found = self._split_form.choice(), self.found
        if found is None or choice == self._choice:
            return
        self._choice = choice
        self.split = None
        self._dividing.start(lambda ticket: divide(found.dataset, choice))
        self.changed.emit()

    def _on_divided(self, answer: SplitResult) -> None:
        self.split = answer
        self._split_form.show_answer(answer)
        refused = answer.dataset is None
        self._form.split_section.summarise("refused" if refused else answer.summary)
        self.changed.emit()

    def _on_not_divided(self, message: str) -> None:
        self._split_form.message.say(message, wrong=True)

    def _on_inspecting(self, progress: Progress) -> None:
        text = f"Looking at the files: {progress.done} of {progress.total}"
        self._data.show_inspection(text, ())

    def _on_inspected(self, answer: tuple[object, str]) -> None:
        report, self.report = answer
        warnings: tuple[str, ...] = getattr(report, "warnings", ())
        shown = warnings[:_MOST_WARNINGS]
        if len(warnings) > len(shown):
            shown = (*shown, f"{len(warnings) - len(shown)} more: see Details")
        self._data.show_inspection("" if warnings else "All files can be read.", shown)
        self._data.details.setEnabled(True)

    def _on_not_inspected(self, message: str) -> None:
        self._data.show_inspection("", (message,))
