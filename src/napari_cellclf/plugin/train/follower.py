"""A run that trains in a process of its own, followed by its log, whoever started it.

The process outlives the widget, and napari too if the user wants that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from qtpy.QtCore import QObject, QTimer, Signal

from napari_cellclf.errors import RunError
from napari_cellclf.io.regular_files import never_a_link
from napari_cellclf.plugin.shared.background import LatestTask, Ticket
from napari_cellclf.plugin.shared.messages import sentence
from napari_cellclf.plugin.train.run_state import RunState, follow
from napari_cellclf.runs.folder import RunFolder, is_locked
from napari_cellclf.runs.progress_log import read_progress

#: "waiting": nothing is trained in the folder, and the run is not finished.
Phase = Literal["none", "starting", "running", "stopping", "waiting", "done", "failed"]
ACTIVE: tuple[Phase, ...] = ("starting", "running", "stopping")

#: Where OpenGL is done in software, each change in a dock redraws all of napari's window.
_POLL_MS = 500
#: As many bytes of a log are read in a millisecond or two, in the GUI's own thread.
_SMALL = 20_000
#: Looking at the lock takes it for a moment, in which a process that starts would not get it:
#: seldom, and never while a process of our own is on.
_LOOK_AT_LOCK_SECONDS = 3.0
#: What the process prints, in the run's folder.
CONSOLE = "console.txt"
_TAIL_BYTES = 4000
#: No console window, and no part in the Ctrl-C of this one.
_WINDOWS_FLAGS = sum(
    getattr(subprocess, name, 0)
    for name in ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP", "BELOW_NORMAL_PRIORITY_CLASS")
)
_NICENESS = 10

#: Processes that were started from this napari and are not known to have ended. Closing a widget
#: does not end them, and one that is opened later finds them here.
_started: dict[Path, TrainingProcess] = {}


@dataclass(frozen=True)
class _Look:
    """One look at a run's folder."""

    state: RunState
    offset: int
    finished: bool
    locked: bool | None


class RunFollower(QObject):
    """One run that is followed."""

    #: Phase or state are others now.
    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: RunFolder | None = None
        self.phase: Phase = "none"
        self.state = RunState()
        self.problem = ""
        self._process: TrainingProcess | None = None
        self._offset = 0
        self._stop_wanted = False
        self._locked_at = 0.0
        self._locked = False
        self._look = LatestTask(self)
        self._look.done.connect(self._on_look)
        self._look.failed.connect(self._on_look_failed)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._poll)

    @property
    def active(self) -> bool:
        """Whether somebody trains."""
        return self.phase in ACTIVE

    def open(self, run: RunFolder) -> None:
        """Follow a run that is there, whether a process trains in it or not."""
        self._begin(run, None, "none")

    def attach(self, process: TrainingProcess) -> None:
        """Follow a process that was started from here."""
        self._begin(process.run, process, "starting")

    def close(self) -> None:
        """Follow nothing any more; the run itself goes on."""
        self._timer.stop()
        self._look.stop()
        self.run, self._process, self.phase = None, None, "none"
        self.state, self.problem = RunState(), ""

    def stop(self) -> str:
        """Ask the run to stop after its step."""
        if self.run is None or not self.active:
            return ""
        self._stop_wanted = True
        try:
            # Before it has begun its work it would sweep the wish away, and has nothing to lose.
            if self.phase == "starting" and self._process is not None:
                self._process.terminate()
            else:
                self.run.ask_to_stop()
        except RunError as error:
            self._stop_wanted = False
            return sentence(str(error))
        self._go("stopping")
        return ""

    def stop_now(self) -> str:
        """End the run at once; it loses what came after its last checkpoint."""
        if self.run is None or self.phase != "stopping":
            return ""
        try:
            if self._process is not None:
                self._process.kill()
            else:
                self.run.ask_to_stop(now=True)
        except RunError as error:
            return sentence(str(error))
        return ""

    def _begin(self, run: RunFolder, process: TrainingProcess | None, phase: Phase) -> None:
        self._look.stop()
        self.run, self._process, self.phase = run, process, phase
        self.state, self.problem = RunState(), ""
        self._offset, self._stop_wanted = 0, False
        self._locked, self._locked_at = False, 0.0
        self._timer.start()
        self._poll()
        self.changed.emit()

    def _poll(self) -> None:
        run = self.run
        if run is None or self._look.running:
            return
        # Asked before the log is read: what it wrote last is in the log by then.
        code = None if self._process is None else self._process.exit_code()
        due = time.monotonic() - self._locked_at >= _LOOK_AT_LOCK_SECONDS
        look_at_lock = self._process is None and (due or not self._locked_at)
        offset, state = self._offset, self.state

        def look(ticket: Ticket) -> tuple[_Look, int | None]:
            records, end = read_progress(run.log, offset)
            locked = is_locked(run) if look_at_lock else None
            return _Look(follow(state, records), end, run.is_finished, locked), code

        if look_at_lock or _size(run) - offset > _SMALL:
            self._look.start(look)
        else:
            # A few lines take less time than a thread, for which the window may have to wait.
            self._on_look(look(Ticket()))

    def _on_look(self, answer: tuple[_Look, int | None]) -> None:
        look, code = answer
        before = self.phase, self.state
        self.state, self._offset = look.state, look.offset
        if look.locked is not None:
            self._locked, self._locked_at = look.locked, time.monotonic()
        phase = self._judge(look, code)
        if phase not in ACTIVE:
            self._timer.stop()
        self.phase = phase
        if (self.phase, self.state) != before:
            self.changed.emit()

    def _on_look_failed(self, message: str) -> None:
        self.problem = message
        self._timer.stop()
        self._go("failed")

    def _judge(self, look: _Look, code: int | None) -> Phase:
        ours = self._process is not None
        if (code is None) if ours else self._locked:
            if self._stop_wanted:
                return "stopping"
            # The log of an earlier process may be all that there is yet; after "done" there is none
            # but ours, which takes a moment to leave.
            begun = self.state.started and self.state.ending in ("", "done")
            return "running" if begun or not ours else "starting"
        if look.finished:
            self.state = replace(self.state, ending="done")
            return "done"
        if self.state.ending == "error":
            self.problem = sentence(self.state.message)
            return "failed"
        if not ours or self._stop_wanted or self.state.ending == "stopped":
            return "waiting"
        self.problem = self._obituary(code)
        return "failed"

    def _obituary(self, code: int | None) -> str:
        words = self._process.last_words() if self._process is not None else ""
        if words.startswith("cellclf:"):
            return sentence(words.removeprefix("cellclf:").strip().removeprefix("error:").strip())
        said = f", after saying {words!r}" if words else ""
        return (
            f"The training process ended by itself (exit code {code}{said}), perhaps for lack of "
            "memory; press Resume to go on from the last checkpoint, or New run to train with a "
            "smaller batch."
        )

    def _go(self, phase: Phase) -> None:
        self.phase = phase
        self.changed.emit()


def _size(run: RunFolder) -> int:
    try:
        return run.log.stat().st_size
    except OSError:
        return 0


class TrainingProcess:
    """Runs ``cellclf train RUN`` in a session of its own."""

    def __init__(self, run: RunFolder, command: list[str] | None = None) -> None:
        self.run = run
        # -P keeps modules that happen to lie in the current folder out of the child.
        command = command or [sys.executable, "-P", "-m", "napari_cellclf", "train"]
        try:
            with open(run.path / CONSOLE, "ab", opener=never_a_link) as console:
                self._process = subprocess.Popen(
                    [*command, str(run.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
                    # What keeps it alive when napari, or the terminal it came from, ends.
                    start_new_session=True,
                    creationflags=_WINDOWS_FLAGS,
                )
        except OSError as error:
            raise RunError(
                f"the training process cannot be started ({error}); try the command below in a "
                "terminal"
            ) from error
        _give_way(self._process.pid)
        _started[run.path] = self

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return how it ended, None while it has not; never waits."""
        code = self._process.poll()
        if code is not None:
            _started.pop(self.run.path, None)
        return code

    def terminate(self) -> None:
        """Ask it to end, before it looks for a file."""
        if self.exit_code() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once, which loses nothing that a checkpoint holds."""
        if self.exit_code() is None:
            self._process.kill()

    def last_words(self) -> str:
        """Return the last line that it printed; empty if it printed none."""
        try:
            with (self.run.path / CONSOLE).open("rb") as console:
                console.seek(max(0, console.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = console.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def running_processes() -> list[TrainingProcess]:
    """List the trainings that were started from this napari and are going on."""
    return [process for process in list(_started.values()) if process.exit_code() is None]


def _give_way(pid: int) -> None:
    """Let the window come first where both want the processor, which training takes all of."""
    if sys.platform != "win32":
        # It may have ended already.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
            # Linux weighs sessions against each other before it looks at processes (sched(7)).
            autogroup = Path(f"/proc/{pid}/autogroup")
            if autogroup.exists():
                autogroup.write_text(str(_NICENESS))
