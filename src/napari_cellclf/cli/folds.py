"""Trains folds beside one another, each in a process of its own, where the machine has room."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from napari_cellclf.cli.stopping import stoppable
from napari_cellclf.core.counting import time_left
from napari_cellclf.core.progress import OnProgress, Progress
from napari_cellclf.errors import CancelledError, RunError
from napari_cellclf.inference.engine_library import usable_cores
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import OnEvent, read_progress

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig

#: Of each fold, at least. With fewer cores, one after the other is faster: two folds beside each
#: other on two cores, of one thread each, took 1.1 to 1.6 times as long.
_CORES, _BYTES = 4, 4 * 2**30
_LOOK = 0.25
#: What trains a run.
COMMAND = [sys.executable, "-m", "napari_cellclf", "train"]
#: What TensorFlow and the libraries below it read, unless the user has set it.
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def folds_at_once(cores: int, free: int | None, config: TrainingConfig) -> int:
    """Decide how many folds are trained at a time.

    With ``reproducible=true`` it is one: the weights depend on the number of threads. `free`: bytes
    of memory, None where the system does not tell.
    """
    if config.reproducible or config.devices == "all":
        return 1
    rooms = cores // _CORES if free is None else min(cores // _CORES, free // _BYTES)
    return max(1, rooms)


def free_memory() -> int | None:
    """Return the bytes that are free, or hold what can be read again; None if nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found) * 1024


@dataclass
class Fold:
    """A run in a process of its own, and who is told of it."""

    run: RunFolder
    on_event: OnEvent
    on_progress: OnProgress
    on_cpu: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _output: IO[bytes] | None = None
    _offset: int = 0

    def start(self, threads: int) -> None:
        """Begin or resume it."""
        # What it wrote before is not news.
        _, self._offset = read_progress(self.run.log)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - until it has ended
        self._process = subprocess.Popen(
            [*COMMAND, str(self.run.path)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=dict.fromkeys(_THREADS, str(threads)) | os.environ,
            # Ctrl-C is for this process, which asks each of them to stop.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def follow(self) -> bool:
        """Pass on what it wrote, and return whether it still runs."""
        assert self._process is not None
        runs = self._process.poll() is None
        records, self._offset = read_progress(self.run.log, self._offset)
        for record in records:
            self._take(record)
        return runs

    def _take(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "step":
            left = time_left(record["seconds_left"], of_stage=bool(record.get("of_stage")))
            said = ", ".join(filter(None, (record["message"], left)))
            self.on_progress(Progress(record["done"], record["total"], said))
        elif record["event"] == "start":
            self.on_cpu = str(record["device"]).startswith("CPU")
        self.on_event(record)

    def ask_to_stop(self) -> None:
        """Ask again until it ends, since it sweeps away what was asked before it began."""
        if not self.run.stop_file.exists():
            self.run.ask_to_stop()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def end(self) -> str:
        """Return why it failed, once it has ended; empty if it did not."""
        if self._output is None:
            return ""
        with self._output as output:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()
        self._output = None
        if self.run.is_finished:
            return ""
        last = said[-1] if said else "it ended without a word"
        return last.removeprefix("cellclf: ").removeprefix("error: ")


def train_beside(
    folds: Sequence[Fold], at_once: int, note: Callable[[str], None], hide: Callable[[], None]
) -> None:
    """Train folds, so many at a time; the second begins once the first computes on no GPU."""
    threads = max(1, usable_cores() // at_once)
    waiting = [fold for fold in folds if not fold.run.is_finished]
    running: list[Fold] = []
    problems: list[str] = []

    def end() -> None:
        for fold in running:
            fold.kill()
        hide()

    with stoppable(None, note, end) as should_stop:
        try:
            while running or waiting:
                stopping = should_stop() or bool(problems)
                if stopping:
                    waiting.clear()
                    for fold in running:
                        fold.ask_to_stop()
                room = at_once if all(fold.on_cpu for fold in running) else 1
                if waiting and len(running) < room:
                    running.append(waiting.pop(0))
                    running[-1].start(threads)
                time.sleep(_LOOK)
                ended = [fold for fold in running if not fold.follow()]
                running = [fold for fold in running if fold not in ended]
                said = [(one, one.end()) for one in ended]
                problems += [f"{one.run.path}: {why}" for one, why in said if why]
        finally:
            for fold in running:
                fold.kill()
                fold.end()
        if should_stop():
            raise CancelledError("stopped; the same command goes on with the folds")
    if problems:
        raise RunError(problems[0])
