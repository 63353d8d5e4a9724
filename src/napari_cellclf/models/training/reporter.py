"""How a run reports its progress, and where it keeps its states: two protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from napari_cellclf.core.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

State = dict[str, Any]
Arrays = Mapping[str, "NDArray[Any]"]


@dataclass(frozen=True)
class StepReport:
    """A training step."""

    stage: str
    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    accuracy: float


class Reporter(Protocol):
    """Receives the events of a run."""

    def stage(self, name: str) -> None:
        """Report that a part of the run begins."""

    def progress(self, progress: Progress) -> None:
        """Report the progress of a part other than epochs."""

    def step(self, report: StepReport) -> None:
        """Report a step."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Report an epoch: stage, epoch, epochs, losses, accuracies, learning rate."""

    def note(self, message: str) -> None:
        """Report something unusual, in one sentence."""


class Keeper(Protocol):
    """Keeps the last states of a run, and its best weights."""

    def save(self, state: State, arrays: Arrays, best: Arrays | None) -> None:
        """Keep a state; `best` are weights if they are newer than those kept before."""

    def load(self, stage: str) -> tuple[State, dict[str, NDArray[Any]]] | None:
        """Return the last state of a stage that can be read, or None."""

    def load_best(self, stage: str, epoch: int) -> dict[str, NDArray[Any]] | None:
        """Return the best weights of a stage, if they are those of that epoch."""


class Silent:
    """A reporter that ignores everything."""

    def stage(self, name: str) -> None:
        """Ignore a stage."""

    def progress(self, progress: Progress) -> None:
        """Ignore progress."""

    def step(self, report: StepReport) -> None:
        """Ignore a step."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Ignore an epoch."""

    def note(self, message: str) -> None:
        """Ignore a note."""


@dataclass
class MemoryKeeper:
    """Keeps states in memory only, for runs that need not survive their process."""

    _states: dict[str, tuple[State, dict[str, NDArray[Any]]]] = field(default_factory=dict)
    _best: dict[tuple[str, int], dict[str, NDArray[Any]]] = field(default_factory=dict)

    def save(self, state: State, arrays: Arrays, best: Arrays | None) -> None:
        """Keep a state instead of the one before."""
        self._states[state["stage"]] = (dict(state), dict(arrays))
        if best is not None:
            self._best = {(state["stage"], state["best_epoch"]): dict(best)}

    def load(self, stage: str) -> tuple[State, dict[str, NDArray[Any]]] | None:
        """Return the last state of a stage."""
        return self._states.get(stage)

    def load_best(self, stage: str, epoch: int) -> dict[str, NDArray[Any]] | None:
        """Return the best weights."""
        return self._best.get((stage, epoch))
