"""Where trials are written down: an Optuna study that several processes share; loads Optuna."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import optuna
from filelock import BaseFileLock, FileLock, Timeout
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from napari_cellclf.errors import InputError, RunError
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.folder import is_locked
from napari_cellclf.runs.tuning.folder import TuningFolder, TuningSpec
from napari_cellclf.runs.tuning.space import Choice, OneOf, Range

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Trials before choices are learned from, and trials are ended early.
_STARTUP = 8
_STARTUP_PRUNING = 4
#: So often in a row may a trial end its process before its first epoch.
_MOST_ATTEMPTS = 3
_ATTEMPTS = "attempts"
_REASON = "reason"


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
        self._claims: dict[int, BaseFileLock] = {}
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
    def trials(self) -> list[FrozenTrial]:
        """Return all trials that were begun, in order."""
        found = self._study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING]

    @contextmanager
    def claimed(self, limit: int) -> Iterator[Trial | None]:
        """Hold a trial: one that no process works on any more, else a new one."""
        with self._folder.locked():
            number = self._claim(limit)
        try:
            yield None if number is None else self._choose(self._taken_up(number))
        finally:
            if number is not None:
                self._claims.pop(number).release()

    @_or_run_error
    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Write down what an epoch came to."""
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if step not in known:
            trial.report(value, step)
        if trial.user_attrs.get(_ATTEMPTS):
            trial.set_user_attr(_ATTEMPTS, 0)
        return trial.should_prune()

    @_or_run_error
    def finish(self, trial: Trial, value: float) -> None:
        """Write down what a trial came to."""
        self._study.tell(trial, value)

    @_or_run_error
    def prune(self, trial: Trial) -> None:
        """Write down that a trial was ended early."""
        self._study.tell(trial, state=TrialState.PRUNED)

    @_or_run_error
    def fail(self, trial: Trial, reason: str) -> None:
        """Write down that a trial could not be trained."""
        trial.set_user_attr(_REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    @_or_run_error
    def let_go(self, trial: Trial) -> None:
        """Leave a trial to be taken up later."""
        trial.set_user_attr(_ATTEMPTS, 0)

    @_or_run_error
    def _claim(self, limit: int) -> int | None:
        """Claim a trial, in one process at a time."""
        trials = self.trials()
        for trial in trials:
            if trial.state == TrialState.RUNNING and self._hold(trial.number):
                if self._is_left(trial.number):
                    return trial.number
                self._claims.pop(trial.number).release()
        if len(trials) >= limit:
            return None
        number = self._study.ask().number
        self._hold(number)
        return number

    def _hold(self, number: int) -> bool:
        # Without `thread_local`, the lock would not be this store's but this thread's.
        lock = FileLock(self._folder.claim_file(number), timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return False
        self._claims[number] = lock
        return True

    def _is_left(self, number: int) -> bool:
        """Whether a claimed trial is to be gone on with; it fails if it ends every process."""
        # Read again: before it was claimed, its process may have ended it.
        trial = self._study.get_trials(deepcopy=False)[number]
        if trial.state != TrialState.RUNNING or is_locked(self._folder.trial(number)):
            return False
        if trial.user_attrs.get(_ATTEMPTS, 0) < _MOST_ATTEMPTS:
            return True
        self.fail(
            self._taken_up(number),
            f"its process ended {_MOST_ATTEMPTS} times before its first epoch, perhaps for want of "
            "memory",
        )
        return False

    @_or_run_error
    def _taken_up(self, number: int) -> Trial:
        study_id = self._storage.get_study_id_from_name(self._spec.study)
        # Optuna has no other way to go on with a trial of a process that is gone.
        return Trial(
            self._study,
            self._storage.get_trial_id_from_study_id_trial_number(study_id, number),
        )

    @_or_run_error
    def _choose(self, trial: Trial) -> Trial:
        # By its number: a trial draws the same in whichever process, and no two draw alike.
        entropy = np.random.SeedSequence([self._config.seed, trial.number])
        seed = int(entropy.generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
        for one in self._spec.ranges:
            _suggest(trial, one)
        trial.set_user_attr(_ATTEMPTS, trial.user_attrs.get(_ATTEMPTS, 0) + 1)
        return trial


def choice_of(trial: Trial | FrozenTrial) -> Choice:
    """Return what was chosen for a trial."""
    return dict(trial.params)


def reason_of(trial: FrozenTrial) -> str:
    """Return why a trial failed; empty if it did not."""
    return str(trial.user_attrs.get(_REASON, ""))


def _suggest(trial: Trial, one: Range) -> None:
    if isinstance(one, OneOf):
        trial.suggest_categorical(one.name, one.choices)
    else:
        trial.suggest_float(one.name, one.low, one.high, log=one.log)


def _pruner(config: TrainingConfig) -> optuna.pruners.BasePruner:
    # While the rate still rises, slow trials are not yet bad ones.
    rising = math.ceil(config.warmup * (config.epochs or config.head_epochs))
    return optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_PRUNING, n_warmup_steps=rising)


def _storage(folder: TuningFolder, url: str | None) -> optuna.storages.BaseStorage:
    # It would tell on standard error of every trial.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        lock = _SystemLock(folder.journal)
        lock.mend(folder.journal)
        backend = JournalFileBackend(str(folder.journal), lock_obj=lock)  # type: ignore[arg-type]
        return JournalStorage(backend)
    if "://" not in url:
        raise InputError("--storage is not a URL; give one such as sqlite:///trials.db")
    try:
        return optuna.storages.get_storage(url)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ValueError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"the --storage cannot be used ({type(cause).__name__}); give a URL such as "
            "sqlite:///trials.db or postgresql+psycopg://user@host/trials, of a data base that is "
            "there"
        ) from error


class _SystemLock:
    """Optuna's lock of its journal, let go of by the system when its process ends, however."""

    def __init__(self, journal: Path) -> None:
        self._lock = FileLock(f"{journal}.lock", poll_interval=0.01)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()

    def mend(self, journal: Path) -> None:
        """Take away a last line whose process was killed in it; Optuna could read no more."""
        with self._lock:
            if not journal.exists():
                return
            with journal.open("r+b") as file:
                content: Any = file.read()
                whole = content.rfind(b"\n") + 1
                if whole < len(content):
                    file.truncate(whole)
