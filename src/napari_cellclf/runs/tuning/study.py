"""The trials of a search: an Optuna study that several processes share; loads Optuna.

Optuna's heartbeats tell which processes are gone, and its retries hand their trials on. A trial
that is retried keeps its number here and goes on from its run's last checkpoint; in the study, each
attempt is a trial of its own.
"""

from __future__ import annotations

import copy
import functools
import math
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.errors import CancelledError, InputError, RunError
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.folder import is_locked
from napari_cellclf.runs.tuning.search_folder import TuningFolder, TuningSpec
from napari_cellclf.runs.tuning.space import Choice, OneOf, Range

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Trials before choices are learned from, and trials are ended early.
_STARTUP = 8
_STARTUP_PRUNING = 4
#: So often in a row may a trial end its process before its first epoch.
_MOST_ATTEMPTS = 3
#: Seconds between two signs of life of a process, and without one until it counts as gone.
_HEARTBEAT, _GRACE = 2, 12
#: Attributes of a trial. The last two hold the number of the attempt that they are true of, since
#: Optuna copies them to the next one.
_REASON, _BEATS, _STOPPED = "reason", "beats", "stopped"


def _or_run_error(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Say in one sentence what is wrong with a storage."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Its own words may hold the URL, and with it a password.
            cause = error.__cause__ or error
            raise RunError(
                f"the storage of the trials cannot be used ({type(cause).__name__}); see whether "
                "it can be reached, then start the same search again"
            ) from error

    return call


class TakenOverError(CancelledError):
    """A process was silent for so long that another one has taken its trial over."""


@dataclass(frozen=True)
class Attempts:
    """A trial of the search, with each attempt to train it, in order."""

    #: From 0, in the order in which trials were begun.
    number: int
    trials: tuple[FrozenTrial, ...]

    @property
    def last(self) -> FrozenTrial:
        """What is known of it."""
        return self.trials[-1]

    @property
    def is_begun(self) -> bool:
        """Whether any process has taken it up."""
        return len(self.trials) > 1 or self.last.state != TrialState.WAITING

    @property
    def is_failed(self) -> bool:
        """Whether it is not tried again."""
        return self.last.state == TrialState.FAIL and bool(self.reason)

    @property
    def reason(self) -> str:
        """Why it failed; empty if it did not."""
        said = self.last.user_attrs.get(_REASON)
        if said is None and self._in_vain() >= _MOST_ATTEMPTS:
            said = (
                f"its process ended {_MOST_ATTEMPTS} times before the next epoch, perhaps for lack "
                "of memory"
            )
        return str(said or "")

    def _in_vain(self) -> int:
        """Count the latest attempts whose process ended before it finished an epoch."""
        count, epochs = 0, [0, *(len(one.intermediate_values) for one in self.trials)]
        for place in reversed(range(len(self.trials))):
            one = self.trials[place]
            stopped = one.user_attrs.get(_STOPPED) == one.number
            if one.state != TrialState.FAIL or stopped or epochs[place + 1] > epochs[place]:
                break
            count += 1
        return count


@_or_run_error
def create_study(folder: TuningFolder, spec: TuningSpec, url: str | None) -> None:
    """Make the study of a new search; its first trial will be the configuration it began with."""
    study = optuna.create_study(
        storage=_storage(folder, url),
        study_name=spec.study,
        direction="maximize" if spec.larger_is_better else "minimize",
    )
    study.enqueue_trial({one.name: one.start for one in spec.ranges})


class Store:
    """The trials of a search."""

    @_or_run_error
    def __init__(self, folder: TuningFolder, url: str | None = None) -> None:
        self._folder = folder
        self._spec = folder.spec()
        self._config = folder.base.spec().config
        self._storage = _storage(folder, url)
        self._retry = _quietly(RetryHeartbeatStaleTrialCallback, inherit_intermediate_values=True)
        try:
            self._study = optuna.load_study(
                study_name=self._spec.study, storage=self._storage, pruner=_pruner(self._config)
            )
        except KeyError as error:
            raise RunError(
                f"the trials of {folder.path} are not in the storage; give the --storage that the "
                "search was begun with"
            ) from error

    @_or_run_error
    def trials(self) -> list[Attempts]:
        """Return all trials that were begun, in order."""
        return [one for one in self._all() if one.is_begun]

    @contextmanager
    def claimed(
        self, limit: int, should_stop: ShouldStop = never_stop
    ) -> Iterator[tuple[int, Trial] | None]:
        """Hold a trial and its number: one whose process is gone, else a new one.

        None if there are as many as the limit says, and none of a process that may be gone.
        """
        deadline, found = time.monotonic() + _GRACE + _HEARTBEAT, None
        while True:
            with self._folder.locked():
                found, others = self._claim(limit)
            if found is not None or not others or should_stop() or time.monotonic() > deadline:
                break
            # A process that is gone is known by its silence alone.
            time.sleep(_HEARTBEAT / 4)
        if found is None:
            yield None
            return
        number, trial = found
        with self._beating(trial):
            try:
                yield number, self._choose(number, trial)
            finally:
                self._let_go(trial)

    @_or_run_error
    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Write down what an epoch came to; return whether the trial is not worth going on with."""
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        try:
            if step not in known:
                trial.report(value, step)
        except UpdateFinishedTrialError as error:
            raise TakenOverError("another process has taken this trial over") from error
        return trial.should_prune()

    @_or_run_error
    def finish(self, trial: Trial, value: float) -> None:
        """Write down what a trial came to, unless another process has taken it over."""
        self._study.tell(trial, value, skip_if_finished=True)

    @_or_run_error
    def prune(self, trial: Trial) -> None:
        """Write down that a trial was ended early."""
        self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    @_or_run_error
    def fail(self, trial: Trial, reason: str) -> None:
        """Write down that a trial could not be trained."""
        try:
            trial.set_user_attr(_REASON, reason)
        except UpdateFinishedTrialError:
            return
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    @_or_run_error
    def _let_go(self, trial: Trial) -> None:
        """Leave a trial that was not concluded to be taken up later."""
        try:
            trial.set_user_attr(_STOPPED, trial.number)
        except UpdateFinishedTrialError:
            return
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _all(self) -> list[Attempts]:
        grouped: dict[int, list[FrozenTrial]] = {}
        for trial in self._study.get_trials(deepcopy=False):
            first = _quietly(RetryHeartbeatStaleTrialCallback.retried_trial_number, trial)
            grouped.setdefault(trial.number if first is None else first, []).append(trial)
        return [Attempts(n, tuple(grouped[first])) for n, first in enumerate(sorted(grouped))]

    @_or_run_error
    def _claim(self, limit: int) -> tuple[tuple[int, Trial] | None, bool]:
        """Take a trial up, in one process at a time; say also whether others are under way."""
        self._give_up_on_silent()
        found = self._all()
        others = any(one.last.state == TrialState.RUNNING for one in found)
        for one in found:
            if one.last.state == TrialState.FAIL and not one.is_failed:
                if is_locked(self._folder.trial(one.number)):
                    # Its process was only silent, or somebody trains it by hand.
                    others = True
                else:
                    self._retry(self._study, copy.deepcopy(one.last))
        found = self._all()
        waits = any(one.last.state == TrialState.WAITING and one.is_begun for one in found)
        if not waits and sum(one.is_begun for one in found) >= limit:
            return None, others
        trial = _quietly(self._study.ask)
        self._storage.record_heartbeat(self._id(trial.number))
        trial.set_user_attr(_BEATS, trial.number)
        (number,) = (one.number for one in self._all() if one.last.number == trial.number)
        return (number, trial), others

    def _give_up_on_silent(self) -> None:
        """Fail the trials of processes that are gone."""
        _quietly(optuna.storages.fail_stale_trials, self._study)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Optuna never fails a trial whose process was killed before its first heartbeat.
            # Whoever holds the search's lock sees that it was.
            if trial.user_attrs.get(_BEATS) != trial.number:
                self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    @contextmanager
    def _beating(self, trial: Trial) -> Iterator[None]:
        """Give signs of life."""
        ended, trial_id = threading.Event(), self._id(trial.number)

        def beat() -> None:
            while not ended.wait(_HEARTBEAT):
                # A storage that cannot be reached now may be at the next beat.
                with suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
                    self._storage.record_heartbeat(trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._spec.study)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    @_or_run_error
    def _choose(self, number: int, trial: Trial) -> Trial:
        # By its number: a trial draws the same in whichever process, and no two draw alike.
        entropy = np.random.SeedSequence([self._config.seed, number])
        seed = int(entropy.generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
        for one in self._spec.ranges:
            _suggest(trial, one)
        return trial


def choice_of(trial: Trial | FrozenTrial) -> Choice:
    """Return what was chosen for a trial."""
    return dict(trial.params)


def _suggest(trial: Trial, one: Range) -> None:
    if isinstance(one, OneOf):
        trial.suggest_categorical(one.name, one.choices)
    else:
        trial.suggest_float(one.name, one.low, one.high, log=one.log)


def _pruner(config: TrainingConfig) -> optuna.pruners.BasePruner:
    # While the rate still rises, slow trials are not yet bad ones.
    rising = math.ceil(config.warmup * (config.epochs or config.head_epochs))
    return optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_PRUNING, n_warmup_steps=rising)


def _storage(folder: TuningFolder, url: str | None) -> RDBStorage:
    # It would tell on standard error of every trial.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    heartbeat = {"heartbeat_interval": _HEARTBEAT, "grace_period": _GRACE}
    if url is None:
        # By a function, since a path may hold what a URL must not.
        connect = functools.partial(
            sqlite3.connect, folder.database, timeout=60, check_same_thread=False
        )
        engine = {"creator": connect}
        return _quietly(RDBStorage, "sqlite:///trials.db", engine_kwargs=engine, **heartbeat)
    if "://" not in url:
        raise InputError("--storage is not a URL; give one such as sqlite:///trials.db")
    try:
        return _quietly(RDBStorage, url, **heartbeat)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ValueError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"the --storage cannot be used ({type(cause).__name__}); give a URL such as "
            "sqlite:///trials.db or postgresql+psycopg://user@host/trials, of an existing database"
        ) from error


def _quietly(function: Callable[..., _R], *args: object, **more: object) -> _R:
    """Call what Optuna warns of: as experimental, or as lacking the heartbeats given here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)
        return function(*args, **more)
