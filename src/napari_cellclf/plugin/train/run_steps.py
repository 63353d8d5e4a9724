"""Begins, resumes, stops and shows a run, as the form says."""

from __future__ import annotations

import time
from collections.abc import Hashable

from qtpy.QtCore import QObject, QUrl, Signal
from qtpy.QtGui import QDesktopServices

from napari_cellclf.errors import RunError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.plugin.shared.background import LatestTask
from napari_cellclf.plugin.shared.messages import Refusal, sentence
from napari_cellclf.plugin.train.follower import (
    ACTIVE,
    RunFollower,
    TrainingProcess,
    running_processes,
)
from napari_cellclf.plugin.train.form import TrainForm
from napari_cellclf.plugin.train.request import TrainRequest, resume_command
from napari_cellclf.plugin.train.run_state import RunHeadline, headline
from napari_cellclf.runs.folder import RunFolder

_STARTING = "Starting (loading Keras takes some seconds)…"
_WRITING = "Creating the run…"
_STOPPING = "Stopping: finishing this step and saving (10 s at most)…"
_RUNNING = "Training in progress; press Stop or wait."
_WAITING = (
    "This run is not finished. Resume continues it from its last checkpoint, with the images and "
    "settings that it was begun with; New run trains what is chosen above."
)
_LEFT = "The run in {folder} stays as it is; Train starts a new one with what is chosen above."
_DONE = "This run is finished; New run trains what is chosen above."
_KEPT = "Its model is {name} among yours in Classify. New run trains what is chosen above."
_OPENED = "The report was opened in the web browser; its file is {page}."
_NO_BROWSER = "No web browser could be started; open this file in one: {page}."
#: The second click of a double click is no wish to lose anything.
_DOUBLE_CLICK_SECONDS = 0.6


class RunSteps(QObject):
    """What happens to the run whose folder is chosen."""

    #: Phase, folder or result are others now.
    changed = Signal()

    def __init__(self, form: TrainForm) -> None:
        super().__init__(form)
        self._form = form
        self._run_form = form.run
        self.follower = RunFollower(self)
        self.command: list[str] | None = None
        self.headline: RunHeadline | None = None
        self._refusal = ""
        self._request: TrainRequest | None = None
        self._begun: TrainRequest | None = None
        self._last: Hashable = None
        self._said: str | None = None
        self._said_wrong = True
        self._stopped_at = 0.0
        self._writing, self._summing_up = LatestTask(self), LatestTask(self)
        self._connect()
        self._adopt()

    @property
    def active(self) -> bool:
        """Whether a run is being written down or trained."""
        return self._writing.running or self.follower.active

    @property
    def resumable(self) -> bool:
        """Whether the chosen folder holds a run that can go on."""
        return self.follower.phase in ("waiting", "failed") and self.follower.run is not None

    @property
    def own_model(self) -> str:
        """Name of the finished run's model among the user's own; empty while there is none."""
        return "" if self.headline is None else self.headline.own_model

    def offer(self, request: TrainRequest | Refusal) -> None:
        """Say what the button would begin, or why it would not."""
        refusal = request.message if isinstance(request, Refusal) else ""
        offered = request if isinstance(request, TrainRequest) else None
        if (offered and offered.command) != (self._request and self._request.command):
            # What was said was of other choices.
            self._said = None
        self._request, self._refusal = offered, refusal
        if offered is not None and offered.chosen != self._last:
            self._last = offered.chosen
            if self.resumable:
                # Other images or settings are another run, not this one resumed.
                self._leave()
                return
        self.show()

    def start(self) -> bool:
        """Do what the button *Train* or *Resume* does."""
        if self.active:
            return self._refuse(_RUNNING)
        if self.follower.phase == "done":
            return self._refuse(_DONE)
        if self.resumable and self.follower.run is not None:
            return self._spawn(self.follower.run)
        request = self._request
        if request is None:
            return self._refuse(self._refusal)
        self._said = None
        self._begun = request
        self._writing.start(lambda ticket: request.write_down())
        self.show()
        return True

    def new_run(self) -> None:
        """Do what the button *New run* does: leave a run, so that another one can be begun."""
        if self.active:
            return
        self._form.fold_choices(False)
        # An empty field is filled in with a new name.
        self._run_form.folder.set_path("")

    def stop(self) -> None:
        """Do what the button *Stop* does, which is *Stop now* while the run is stopping."""
        stopping = self.follower.phase == "stopping"
        if stopping and time.monotonic() - self._stopped_at < _DOUBLE_CLICK_SECONDS:
            return
        self._stopped_at = time.monotonic()
        problem = self.follower.stop_now() if stopping else self.follower.stop()
        self._said, self._said_wrong = problem or None, True
        self.show()

    def open_report(self) -> bool:
        """Show the report in the web browser."""
        page = None if self.headline is None else self.headline.report
        if page is None:
            return self._refuse("There is no report; no images were held out to judge the model.")
        opened = bool(QDesktopServices.openUrl(QUrl.fromLocalFile(str(page))))
        self._said = (_OPENED if opened else _NO_BROWSER).format(page=page)
        self._said_wrong = not opened
        self.show()
        return opened

    def look_at_folder(self) -> None:
        """Follow the run in the chosen folder, if there is one."""
        if self.active:
            return
        text = self._run_form.folder.path().strip()
        run = RunFolder(expanded(text).absolute())
        self._said = None
        self.headline = None
        self._summing_up.stop()
        if text and run.is_run:
            self.follower.open(run)
        elif self.follower.run is not None:
            self.follower.close()
        self.changed.emit()

    def shut_down(self) -> None:
        """Follow nothing any more; a run that is going on goes on."""
        for task in (self._writing, self._summing_up):
            task.stop()
        self.follower.close()

    def show(self) -> None:
        """Let the form show how things stand."""
        form, follower = self._run_form, self.follower
        phase = follower.phase
        active = self.active
        form.folder.setEnabled(not active)
        run = follower.run
        form.offer(
            resume=run.path.name if run is not None and self.resumable else "",
            new=phase == "done" or self.resumable,
            able=not active and (self.resumable or self._request is not None),
        )
        form.offer_stop(able=phase in ACTIVE, now=phase == "stopping")
        waiting = _WRITING if self._writing.running else ""
        waiting = {"starting": _STARTING, "stopping": _STOPPING}.get(phase, waiting)
        state = follower.state if follower.run is not None or active else None
        form.show_state(state, waiting=waiting)
        text, wrong = self._message()
        form.message.say(text, wrong=wrong)
        command = self._command()
        form.command.show_command(command)
        self._form.run_section.setVisible(bool(command) or state is not None)
        result = self.headline if phase == "done" else None
        form.result.show_headline(
            "" if result is None else result.text,
            report=result is not None and result.report is not None,
        )
        self._form.run_section.summarise(follower.state.stage_text if active else "")

    def _message(self) -> tuple[str, bool]:
        phase = self.follower.phase
        if self._said:
            return self._said, self._said_wrong
        if phase == "failed":
            return self.follower.problem, True
        if phase == "waiting":
            return _WAITING, False
        if phase == "done":
            found = self.headline
            if found is not None and found.problem:
                return sentence(f"the model is only in the run's folder: {found.problem}"), True
            return (_KEPT.format(name=self.own_model) if self.own_model else _DONE), False
        return ("", False) if self.active else (self._refusal, False)

    def _command(self) -> str:
        run = self.follower.run
        if run is None:
            return "" if self._request is None else self._request.command
        begun = self._begun
        if begun is not None and begun.folder == run.path:
            return begun.command
        # What made a run that was found is not known here, only how to go on with it.
        return resume_command(run.path)

    def _connect(self) -> None:
        self._writing.done.connect(self._on_written)
        self._writing.failed.connect(self._on_refused)
        self._summing_up.done.connect(self._on_headline)
        self._summing_up.failed.connect(self._on_refused)
        self.follower.changed.connect(self._on_follower)
        self._run_form.train.clicked.connect(self.start)
        self._run_form.new.clicked.connect(self.new_run)
        self._run_form.stop.clicked.connect(self.stop)
        self._run_form.folder_changed.connect(self.look_at_folder)
        self._run_form.result.report.clicked.connect(self.open_report)

    def _adopt(self) -> None:
        """Follow a run that was started before, from a widget that was closed."""
        processes = running_processes()
        if not processes:
            return
        self._run_form.folder.set_path(str(processes[-1].run.path))
        self.follower.attach(processes[-1])
        self._form.fold_choices(True)

    def _spawn(self, run: RunFolder) -> bool:
        try:
            process = TrainingProcess(run, self.command)
        except RunError as error:
            self.follower.open(run)
            return self._refuse(sentence(str(error)))
        self._said = None
        self.headline = None
        self._form.fold_choices(True)
        self.follower.attach(process)
        return True

    def _leave(self) -> None:
        """Leave an unfinished run, since something else is to be trained now."""
        folder = "" if self.follower.run is None else self.follower.run.path
        self.new_run()
        self._said, self._said_wrong = _LEFT.format(folder=folder), False
        self.show()

    def _refuse(self, message: str) -> bool:
        self._said, self._said_wrong = message, True
        self.show()
        return False

    def _on_written(self, run: RunFolder) -> None:
        self._spawn(run)
        self.show()

    def _on_refused(self, message: str) -> None:
        self._refuse(message)

    def _on_follower(self) -> None:
        run = self.follower.run
        done = self.follower.phase == "done"
        if done and run is not None and self.headline is None and not self._summing_up.running:
            self._summing_up.start(lambda ticket: headline(run))
        self.changed.emit()

    def _on_headline(self, found: RunHeadline) -> None:
        self.headline = found
        self.changed.emit()
