"""A search goes its way whatever ends its processes; trials that learn nothing make it quick."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
from optuna.trial import TrialState
from pretending import BEST_RATE, pretend_training

from napari_cellclf.errors import (
    CancelledError,
    CheckpointError,
    DatasetError,
    InputError,
    RunError,
    TrainingError,
)
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.presets import load_preset
from napari_cellclf.runs.create import load_dataset
from napari_cellclf.runs.folder import RunFolder, is_locked, locked
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.tuning import study
from napari_cellclf.runs.tuning.search import create_best, run_search
from napari_cellclf.runs.tuning.search_folder import TuningFolder, create_search
from napari_cellclf.runs.tuning.space import configuration
from napari_cellclf.runs.tuning.study import Store, TakenOverError, choice_of
from napari_cellclf.runs.tuning.trial_records import plot_results
from napari_cellclf.runs.tuning.trial_worker import Task, begin_trial, task_line, without_test

pytestmark = pytest.mark.usefixtures("_nothing_slow")

CONFIG = TrainingConfig(
    epochs=4,
    learning_rate=0.002,
    batch_size=8,
    warmup=0,
    augmentation=AugmentationConfig.off(noise=0.1),
)


@pytest.fixture
def dataset(make_images):
    return read_dataset(make_images()).split("random", seed=0)


@pytest.fixture
def begin(dataset, tmp_path):
    return partial(create_search, dataset, CONFIG, tmp_path / "tuning")


@pytest.fixture
def _nothing_slow(monkeypatch):
    """Drawing, and looking for networks to forget, takes longer than such trials."""
    monkeypatch.setattr("napari_cellclf.runs.tuning.trial_worker.gc.collect", int)
    monkeypatch.setattr("napari_cellclf.runs.tuning.search.plot_results", lambda *_: None)


@pytest.fixture
def impatient(monkeypatch):
    """Processes that are silent for a second are gone."""
    monkeypatch.setattr(study, "_HEARTBEAT", 1)
    monkeypatch.setattr(study, "_GRACE", 2)


@contextmanager
def killed(folder: TuningFolder, limit: int = 3):
    """Claim a trial in a process that is killed where the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_let_go", lambda *_: None)
        with Store(folder).claimed(limit) as claimed:
            yield claimed


@pytest.fixture
def trained(monkeypatch):
    """Numbers of the trials that were trained, in order."""
    numbers: list[int] = []

    def train(folder, **more):
        numbers.append(int(Path(folder).name))
        return pretend_training(folder, **more)

    monkeypatch.setattr("napari_cellclf.runs.api.run_training", train)
    return numbers


def _rows(folder: TuningFolder) -> list[dict[str, str]]:
    with folder.table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_finds_better_settings_and_writes_them_down(begin, trained):
    folder = begin(preset="fluorescence", data={"every": 9})
    result = run_search(folder.path, trials=10)
    first = result.trials[0]
    assert dict(first.choice) == {"learning_rate": 0.002, "batch_size": 8}
    assert result.best.value < first.value / 2
    assert trained == list(range(10))
    assert [int(row["trial"]) for row in _rows(folder)] == trained
    document = json.loads(folder.best_file.read_text())
    assert document["trial"] == result.best.number
    assert document["trials"]["complete"] + document["trials"]["pruned"] == 10
    best = configuration(CONFIG, result.best.choice)
    assert load_preset(str(folder.best_preset)) == best
    assert "every = 9" in folder.best_preset.read_text()
    assert not list(folder.path.rglob("*.partial*"))


def test_plots_are_drawn(begin, trained):
    folder = begin()
    result = run_search(folder.path, trials=2)
    plot_results(folder, result.spec, result.trials)
    for name in ("history.png", "settings.png"):
        assert (folder.path / name).read_bytes().startswith(b"\x89PNG")
    assert not list(folder.path.rglob("*.partial*"))


def test_trials_see_no_test_image_and_leave_no_checkpoints(begin, trained, dataset):
    folder = begin()
    run_search(folder.path, trials=2)
    for number in range(2):
        run = folder.trial(number)
        splits = set(load_dataset(run).table["split"])
        assert splits == {"train", "validation"}
        assert not set(dataset.test.paths) & set(load_dataset(run).paths)
        assert not run.checkpoints.exists()


def test_the_best_is_trained_with_the_same_split_and_the_test_images(begin, trained, dataset):
    folder = begin()
    result = run_search(folder.path, trials=3)
    run = create_best(result)
    assert load_dataset(run).sha256 == dataset.sha256
    assert run.spec().config == configuration(CONFIG, result.best.choice)
    assert create_best(result) == run
    changed = RunFolder(run.path).spec().model_copy(update={"requested": CONFIG.changed(epochs=9)})
    run.spec_file.write_text(changed.model_dump_json())
    with pytest.raises(RunError, match="not the best any more"):
        create_best(result)


def test_hopeless_trials_are_ended_early(begin, trained):
    folder = begin()
    result = run_search(folder.path, trials=12)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.epochs < CONFIG.epochs for trial in pruned)
    assert all(trial.value > result.best.value for trial in pruned)
    assert result.best.state == "complete"


def test_the_same_seed_finds_the_same(begin, trained, dataset, tmp_path):
    one = run_search(begin().path, trials=9)
    other = create_search(dataset, CONFIG, tmp_path / "other")
    # Stopped in between, too.
    run_search(other.path, trials=4)
    again = run_search(other.path, trials=9)
    assert [trial.choice for trial in one.trials] == [trial.choice for trial in again.trials]
    seeded = create_search(dataset, CONFIG.changed(seed=1), tmp_path / "seeded")
    assert run_search(seeded.path, trials=2).trials[1].choice != one.trials[1].choice


def test_goes_on_with_the_remaining_trials(begin, trained):
    folder = begin()
    run_search(folder.path, trials=3)
    assert begin() == folder
    told = []
    result = run_search(folder.path, trials=5, on_trial=lambda trial, best: told.append(trial))
    assert trained == [0, 1, 2, 3, 4]
    assert [trial.number for trial in told] == [3, 4]
    assert len(result.trials) == 5
    # As many as were asked for are there.
    run_search(folder.path, trials=5)
    assert trained == [0, 1, 2, 3, 4]


def test_goes_on_after_a_kill(begin, trained, impatient):
    folder = begin()
    with _child(folder) as process:
        _await(lambda: read_progress(folder.trial(0).log)[0], process)
        process.kill()
    result = run_search(folder.path, trials=2)
    assert sorted(trained) == [0, 1]
    assert [trial.state for trial in result.trials] == ["complete", "complete"]
    # The epoch that was validated before the kill is not counted twice.
    assert result.trials[0].epochs == CONFIG.epochs


def test_a_child_ends_with_its_parent(begin):
    folder = begin()
    with _child(folder) as process:
        _await(lambda: read_progress(folder.trial(0).log)[0], process)
        # As the system does when the parent is killed.
        process.stdin.close()
        assert process.wait(60) == 130


def test_two_processes_train_at_once_and_stop(begin, monkeypatch):
    folder = begin()
    monkeypatch.setattr("napari_cellclf.runs.tuning.search._MODULE", "pretending")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    runs = [folder.trial(number) for number in range(2)]

    def both_train() -> bool:
        return all(is_locked(run) and read_progress(run.log)[0] for run in runs)

    with pytest.raises(CancelledError, match="0 of 3 trials"):
        run_search(folder.path, trials=3, jobs=2, should_stop=both_train)
    assert not any(map(is_locked, runs))
    assert not folder.trial(2).path.exists()


def test_a_child_that_cannot_go_on_says_why(begin):
    folder = begin()
    folder.base.dataset_file.unlink()
    with pytest.raises(RunError, match=r"dataset\.csv cannot be read"):
        run_search(folder.path, trials=2, jobs=2)


def test_a_child_that_crashes_is_told_of(begin, monkeypatch):
    monkeypatch.setattr("napari_cellclf.runs.tuning.search._MODULE", "no_such_module")
    with pytest.raises(RunError, match=r"ended with code 1, .*start the same search again"):
        run_search(begin().path, trials=2, jobs=2)


def _child(folder: TuningFolder) -> subprocess.Popen[bytes]:
    """Start a process whose second epoch never ends."""
    program = [sys.executable, str(Path(__file__).with_name("pretending.py")), str(folder.path)]
    process = subprocess.Popen(program, stdin=subprocess.PIPE)
    process.stdin.write(task_line(Task(2)))
    process.stdin.flush()
    return process


def _await(happened, process: subprocess.Popen[bytes]) -> None:
    while not happened() and process.poll() is None:
        time.sleep(0.02)


def test_a_trial_of_a_living_process_is_left_alone(begin, trained, impatient):
    folder = begin()
    # Whether it has begun to train, or has ended and not yet said so, makes no difference.
    with Store(folder).claimed(3) as (number, trial):
        begin_trial(folder, number, choice_of(trial), without_test(load_dataset(folder.base)))
        result = run_search(folder.path, trials=3)
    assert trained == [1, 2]
    assert result.trials[0].state == "under way"
    run_search(folder.path, trials=3)
    assert trained == [1, 2, 0]


def test_a_trial_that_somebody_trains_by_hand_is_left_alone(begin, trained, impatient):
    folder = begin()
    with Store(folder).claimed(3) as (number, trial):
        begin_trial(folder, number, choice_of(trial), without_test(load_dataset(folder.base)))
    with locked(folder.trial(number)):
        result = run_search(folder.path, trials=3)
    assert trained == [1, 2]
    assert result.trials[0].state == "under way"


def test_a_process_that_was_silent_concludes_no_trial_twice(begin, impatient):
    folder = begin()
    silent, other = Store(folder), Store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_beating", lambda *_: nullcontext())
        with silent.claimed(1) as (number, trial):
            assert not silent.report(trial, 0, 0.5)
            with other.claimed(1) as (same, again):
                assert number == same == 0
                assert again.params == trial.params
                with pytest.raises(TakenOverError):
                    silent.report(trial, 1, 0.25)
                silent.finish(trial, 0.125)
                silent.fail(trial, "not so")
                other.finish(again, 0.75)
    (one,) = other.trials()
    assert (one.number, one.last.value, one.reason) == (0, 0.75, "")
    # What was seen before it was taken over is not lost.
    assert one.last.intermediate_values == {0: 0.5}


def test_a_kill_between_claiming_and_beginning_loses_nothing(begin, trained, impatient):
    folder = begin()
    with killed(folder) as (number, left):
        pass
    (folder.trial(0).path).mkdir(parents=True)
    (folder.trial(0).path / ".dataset.csv.1.tmp").touch()
    result = run_search(folder.path, trials=3)
    assert number == 0
    assert sorted(trained) == [0, 1, 2]
    assert result.trials[0].choice == dict(left.params)


def test_a_kill_before_the_first_heartbeat_loses_nothing(begin, trained):
    """Optuna never calls such a trial stale, so that it would be under way for ever."""
    folder = begin()
    store = Store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._storage, "record_heartbeat", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError), store.claimed(2):
            pass
    result = run_search(folder.path, trials=2)
    assert trained == [0, 1]
    assert [trial.state for trial in result.trials] == ["complete", "complete"]


def test_a_kill_between_failing_and_retrying_loses_nothing(begin, trained):
    """Optuna fails a trial that is stale, and writes its next attempt down after that."""
    folder = begin()
    with Store(folder).claimed(2):
        pass
    assert [one.last.state for one in Store(folder)._all()] == [TrialState.FAIL]
    result = run_search(folder.path, trials=2)
    assert trained == [0, 1]
    assert [trial.state for trial in result.trials] == ["complete", "complete"]


def test_a_trial_that_ends_every_process_finally_fails(begin, trained, impatient):
    folder = begin()
    for _ in range(3):
        with killed(folder, limit=1) as (number, _):
            assert number == 0
    result = run_search(folder.path, trials=2)
    assert trained == [1]
    assert result.trials[0].state == "failed"
    assert "3 times" in _rows(folder)[0]["reason"]


def test_a_trial_that_is_stopped_many_times_goes_on(begin, trained):
    folder = begin()
    for _ in range(4):
        with Store(folder).claimed(1) as (number, _):
            assert number == 0
    assert run_search(folder.path, trials=1).trials[0].state == "complete"


def test_a_trial_with_damaged_checkpoints_begins_anew(begin, monkeypatch):
    folder, calls = begin(), []

    def train(path, **more):
        calls.append(path)
        if len(calls) == 1:
            raise CheckpointError("no checkpoint can be read")
        return pretend_training(path, **more)

    monkeypatch.setattr("napari_cellclf.runs.api.run_training", train)
    assert run_search(folder.path, trials=1).best.number == 0
    assert len(calls) == 2


def test_what_cannot_be_trained_fails_and_others_go_on(begin, monkeypatch):
    def train(path, **more):
        if Path(path).name == "0000":
            raise TrainingError("the loss became NaN again")
        return pretend_training(path, **more)

    monkeypatch.setattr("napari_cellclf.runs.api.run_training", train)
    result = run_search(begin().path, trials=2)
    assert [trial.state for trial in result.trials] == ["failed", "complete"]
    assert result.trials[0].reason == "the loss became NaN again"


def test_if_none_can_be_trained_the_first_says_why(begin, monkeypatch):
    def train(path, **more):
        raise TrainingError(f"no luck with {Path(path).name}")

    monkeypatch.setattr("napari_cellclf.runs.api.run_training", train)
    with pytest.raises(TrainingError, match=r"none of 2 trials .* no luck with 0000"):
        run_search(begin().path, trials=2)


def test_bad_images_end_the_search_and_the_trial_waits(begin, trained, monkeypatch):
    folder = begin()
    with monkeypatch.context() as patch:
        patch.setattr(
            "napari_cellclf.runs.api.run_training",
            lambda *_, **__: (_ for _ in ()).throw(DatasetError("5 images cannot be used")),
        )
        with pytest.raises(DatasetError, match="5 images"):
            run_search(folder.path, trials=2)
    assert [trial.state for trial in run_search(folder.path, trials=2).trials] == ["complete"] * 2


def test_stops_within_an_epoch_and_goes_on(begin, trained):
    folder, epochs = begin(), []
    with pytest.raises(CancelledError, match="0 of 3 trials; start the same again"):
        run_search(
            folder.path, trials=3, on_progress=epochs.append, should_stop=lambda: len(epochs) > 1
        )
    assert trained == [0]
    result = run_search(folder.path, trials=3)
    assert trained == [0, 0, 1, 2]
    assert all(trial.is_over for trial in result.trials)


def test_a_file_stops_every_process(begin, trained):
    folder = begin()
    with pytest.raises(CancelledError):
        run_search(folder.path, trials=3, on_progress=lambda _: folder.stop_file.touch())
    assert trained == [0]
    assert len(run_search(folder.path, trials=3).trials) == 3


def test_ends_in_time(begin, monkeypatch):
    folder = begin()
    with monkeypatch.context() as patch:
        patch.setattr("napari_cellclf.runs.api.run_training", partial(pretend_training, seconds=60))
        with pytest.raises(TrainingError, match="no trial was finished yet"):
            run_search(folder.path, trials=2, timeout=0.3)
    monkeypatch.setattr("napari_cellclf.runs.api.run_training", pretend_training)
    result = run_search(folder.path, trials=2, timeout=60)
    assert result.best.value is not None


def test_progress_counts_epochs(begin, trained):
    told = []
    run_search(begin().path, trials=3, on_progress=told.append)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[0].done == 1
    assert (told[-1].done, told[-1].total) == (12, 12)


def test_larger_is_better_for_accuracy(begin, trained):
    result = run_search(begin(metric="accuracy").path, trials=4)
    assert result.folder.base.spec().config.monitor == "accuracy"
    values = [trial.value for trial in result.trials if trial.state == "complete"]
    assert result.best.value == max(values)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": CONFIG.changed(epochs=7)}, "other settings .epochs"),
        ({"metric": "accuracy"}, "the metric loss"),
        ({"search": ("augmentation",)}, "a search of learning_rate, batch_size"),
        ({"storage": "sqlite:///other.db"}, "trials in its own folder"),
    ],
)
def test_another_search_does_not_go_into_the_folder(begin, dataset, changes: dict, says: str):
    folder = begin()
    config = changes.pop("config", CONFIG)
    with pytest.raises(RunError, match=says):
        create_search(dataset, config, folder.path, **changes)


def test_other_images_do_not_go_into_the_folder(begin, dataset):
    folder = begin()
    with pytest.raises(RunError, match="other images"):
        create_search(dataset.subset(range(20)), CONFIG, folder.path)


def test_a_folder_of_somebody_is_left_alone(begin, tmp_path):
    (tmp_path / "tuning" / "base").mkdir(parents=True)
    precious = tmp_path / "tuning" / "base" / "thesis.txt"
    precious.write_text("mine")
    with pytest.raises(RunError, match="holds files already"):
        begin()
    assert precious.read_text() == "mine"


def test_a_half_made_search_is_begun_again(begin, trained):
    folder = begin()
    folder.spec_file.unlink()
    assert begin() == folder
    assert len(run_search(folder.path, trials=2).trials) == 2


def test_without_validation_there_is_nothing_to_judge_by(dataset, tmp_path):
    splits = dataset.table["split"].replace("validation", "train")
    with pytest.raises(DatasetError, match="no validation images"):
        create_search(dataset.with_splits(splits), CONFIG, tmp_path / "tuning")


def test_trials_in_a_data_base(dataset, tmp_path, trained):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    make = partial(create_search, dataset, CONFIG)
    one = make(tmp_path / "one", storage=url)
    other = make(tmp_path / "other", storage=url)
    run_search(one.path, trials=1, storage=url)
    assert make(tmp_path / "one", storage=url) == one
    result = run_search(one.path, trials=2, storage=url)
    assert len(result.trials) == 2
    # Another search in the same data base is another.
    assert Store(other, url).trials() == []
    assert not one.database.exists()
    assert url not in one.spec_file.read_text()
    with pytest.raises(RunError, match="give the --storage"):
        run_search(one.path, trials=2)


@pytest.mark.parametrize("url", ["trials.db", "nosuch://x", "sqlite:////no/such/folder/x.db"])
def test_a_storage_that_cannot_be_is_refused(begin, url: str):
    with pytest.raises(InputError, match="storage"):
        begin(storage=url)


def test_a_folder_that_is_no_search_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no search"):
        run_search(tmp_path, trials=1)
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(RunError, match="cannot be read"):
        run_search(tmp_path, trials=1)


def test_the_pretended_optimum_is_in_the_range():
    assert CONFIG.learning_rate < BEST_RATE <= 10 * CONFIG.learning_rate
