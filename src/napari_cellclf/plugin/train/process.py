"""The process that trains: it outlives the widget, and napari too if the user wants that."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from napari_cellclf.errors import RunError
from napari_cellclf.runs.folder import RunFolder

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


class TrainingProcess:
    """Runs ``cellclf train RUN`` in a session of its own."""

    def __init__(self, run: RunFolder, command: list[str] | None = None) -> None:
        self.run = run
        # -P keeps modules that happen to lie in the current folder out of the child.
        command = command or [sys.executable, "-P", "-m", "napari_cellclf", "train"]
        try:
            with (run.path / CONSOLE).open("ab") as console:
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
        """End it at once, which loses nothing that a checkpoint holds."""
        if self.exit_code() is None:
            self._process.terminate()

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


def ask_to_stop(run: RunFolder) -> None:
    """Ask whatever process trains in a folder to stop after its batch."""
    try:
        run.stop_file.touch()
    except OSError as error:
        raise RunError(
            f"{run.stop_file} cannot be made ({error.strerror or error}); make it by hand to stop "
            "the run"
        ) from error


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
