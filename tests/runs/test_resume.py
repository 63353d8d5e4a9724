"""A training that is stopped, killed, damaged or short of room ends with the very same weights."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from counting import CONFIG, EPOCHS, Notes, Trainer, stop_at, train
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.core.metrics import Metric
from napari_cellclf.errors import CancelledError, RunError, TrainingError
from napari_cellclf.runs import checkpoints
from napari_cellclf.runs.checkpoints import DiskKeeper, remove_partial

#: Three epochs of three steps, each followed by a validation of three batches.
QUESTIONS = EPOCHS * (3 + 3)


class Killed(BaseException):
    """The process is gone."""


class KilledWhileWriting(DiskKeeper):
    """Dies while it writes a state, before or after it has got its name, or after cleaning up."""

    def __init__(self, folder: Path, at: int, when: str) -> None:
        super().__init__(folder, lambda message: None)
        self._left, self._when = at, when

    def _write(self, name, state, arrays) -> None:
        self._left -= 1
        if self._left == 0 and self._when == "before":
            # What a killed process leaves behind: its TemporaryDirectory does not tidy up.
            half = self._folder / ".abc.partial" / name
            half.mkdir(parents=True)
            (half / "arrays.npz").write_bytes(b"PK")
            raise Killed
        super()._write(name, state, arrays)
        if self._left == 0 and self._when == "after":
            raise Killed

    def _prune(self) -> None:
        if self._left > 0 or self._when != "unpruned":
            super()._prune()
        else:
            raise Killed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    state, weights = train(tmp_path_factory.mktemp("whole") / "checkpoints")
    return state, weights


def same(found, expected) -> None:
    state, weights = found
    np.testing.assert_array_equal(weights, expected[1])
    assert state.history == expected[0].history
    assert state.best == expected[0].best


@pytest.mark.parametrize("question", range(QUESTIONS))
def test_stopped_at_any_batch_of_training_or_validation(tmp_path, whole, question):
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError, match="start the run again to resume"):
        train(folder, should_stop=stop_at(question))
    same(train(folder), whole)


@settings(deadline=None, max_examples=30)
@given(questions=st.lists(st.integers(0, QUESTIONS), min_size=1, max_size=6))
def test_stopped_again_and_again(tmp_path_factory, whole, questions):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for question in questions:
        try:
            train(folder, should_stop=stop_at(question))
        except CancelledError:
            continue
        break
    same(train(folder), whole)


@pytest.mark.parametrize("when", ["before", "after", "unpruned"])
@pytest.mark.parametrize("write", range(1, 12))
def test_killed_while_it_writes_a_state(tmp_path, whole, write, when):
    folder = tmp_path / "checkpoints"
    with pytest.raises(Killed):
        train(folder, keeper=KilledWhileWriting(folder, write, when))
    remove_partial(folder)
    same(train(folder), whole)
    assert not list(folder.glob(".*"))


def test_killed_between_two_states_loses_what_came_after_the_last(tmp_path, whole):
    folder = tmp_path / "checkpoints"

    def die(size, taken, rate):
        if taken == 5:
            raise Killed

    with pytest.raises(Killed):
        train(folder, trainer=Trainer(die), config=CONFIG.changed(checkpoint_seconds=1000))
    assert [path.name for path in sorted(folder.iterdir())] == ["000001"]
    same(train(folder), whole)


def test_a_finished_stage_is_not_trained_again(tmp_path, whole):
    folder = tmp_path / "checkpoints"
    train(folder)
    idle = Trainer(lambda *step: pytest.fail("a step was taken"))
    same(train(folder, trainer=idle), whole)


def test_without_a_validation_the_last_weights_are_kept(tmp_path):
    whole = train(tmp_path / "whole", validated=False)
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError):
        train(folder, validated=False, should_stop=stop_at(4))
    same(train(folder, validated=False), whole)
    same(train(folder, validated=False), whole)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def replace_by_object(file: Path) -> None:
    file.write_bytes(b"{}")


DAMAGES = [cut, empty, flip, remove, replace_by_object]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["state.json", "arrays.npz"])
def test_a_damaged_newest_state_gives_way_to_the_one_before(tmp_path, whole, name, damage):
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError):
        train(folder, should_stop=stop_at(7))
    *_, before, newest = sorted(path.name for path in folder.glob("0*"))
    damage(folder / newest / name)
    told = Notes()
    same(train(folder, reporter=told), whole)
    (note,) = told.notes
    assert f"checkpoint {newest} is damaged" in note
    assert "using an older one" in note
    # The damaged one did not push out the good one, and is gone.
    assert not (folder / newest).exists()
    assert int(before) < int(min(path.name for path in folder.glob("0*")))


def test_every_bit_of_a_state_counts(tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError):
        train(folder, should_stop=stop_at(4))
    newest = sorted(folder.glob("0*"))[-1] / "state.json"
    content = newest.read_bytes()
    notes: list[str] = []
    keeper = DiskKeeper(folder, notes.append)
    good, _ = keeper.load("network")
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1
        newest.write_bytes(changed)
        found, _ = DiskKeeper(folder, notes.append).load("network")
        # Harmless changes are allowed, such as of the case of an escape; others never pass.
        assert found == good or found["step"] != good["step"]
    assert len(notes) > 30


def test_all_states_damaged(tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError):
        train(folder, should_stop=stop_at(4))
    for path in folder.glob("0*"):
        cut(path / "arrays.npz")
    with pytest.raises(checkpoints.CheckpointError, match="delete that folder to train from the"):
        train(folder)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_best_weights_give_way_to_later_ones(tmp_path, whole, damage):
    folder = tmp_path / "checkpoints"
    # In the first step of the third epoch.
    with pytest.raises(CancelledError):
        train(folder, should_stop=stop_at(12))
    (best,) = folder.glob("best-*")
    damage(best / "arrays.npz")
    told = Notes()
    state, weights = train(folder, reporter=told)
    assert state.best_epoch == EPOCHS
    assert np.isfinite(weights).all()
    assert len(told.notes) == (0 if damage is remove else 1)


def test_damaged_best_weights_of_a_finished_stage(tmp_path):
    folder = tmp_path / "checkpoints"
    train(folder)
    (best,) = folder.glob("best-*")
    cut(best / "arrays.npz")
    told, trainer = Notes(), Trainer()
    _, weights = train(folder, reporter=told, trainer=trainer)
    last = np.load(sorted(folder.glob("0*"))[-1] / "arrays.npz")
    np.testing.assert_array_equal(weights, last["weights"])
    assert "the run resumes with later ones" in told.notes[0]


def states(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_is_seen_before_it_is_written_to(tmp_path, whole, monkeypatch):
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError):
        train(folder, should_stop=stop_at(4))
    before = states(folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(RunError, match=r"needs 50 MiB .* where 0 MiB are free; free some"):
            train(folder)
    assert states(folder) == before
    same(train(folder), whole)


@pytest.mark.parametrize("write", range(3))
def test_the_disk_gets_full_while_a_state_is_written(tmp_path, whole, monkeypatch, write):
    folder = tmp_path / "checkpoints"
    with pytest.raises(CancelledError):
        train(folder, should_stop=stop_at(4))
    before = states(folder)
    left = iter(range(write, -1, -1))
    real = os.fsync

    def full(descriptor):
        if next(left, 1) == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "fsync", full)
        with pytest.raises(RunError, match=r"No space left on device.*resumes from its last"):
            train(folder)
    assert set(before.items()) <= set(states(folder).items())
    assert not list(folder.glob(".*"))
    same(train(folder), whole)


class TestNoNumber:
    def test_once_is_rolled_back_at_a_tenth_of_the_rate(self, tmp_path):
        rates = []

        def once(size, taken, rate):
            rates.append(rate)
            return np.nan if len(rates) == 5 else None

        told, folder = Notes(), tmp_path / "checkpoints"
        config = CONFIG.changed(schedule="constant", warmup=0)
        state, weights = train(folder, trainer=Trainer(once), reporter=told, config=config)
        assert np.isfinite(weights).all()
        assert len(state.history) == EPOCHS
        (note,) = told.notes
        assert "went back to epoch 2, step 1" in note
        assert "a tenth of the learning rate (0.01)" in note
        # It took the fifth step again, and went on with the lower rate.
        np.testing.assert_allclose(rates, [0.1] * 5 + [0.01] * 5)

    @pytest.mark.parametrize("loss", [np.nan, np.inf])
    def test_twice_ends_the_run_and_keeps_numbers_only(self, tmp_path, loss):
        told, folder = Notes(), tmp_path / "checkpoints"
        bad = Trainer(lambda size, taken, rate: loss if taken == 5 else None)
        with pytest.raises(
            TrainingError, match=r"the loss became NaN again in epoch 2.*learning rate 0.1"
        ):
            train(folder, trainer=bad, reporter=told)
        assert len(told.notes) == 1
        for file in folder.rglob("arrays.npz"):
            for array in np.load(file).values():
                assert np.isfinite(array).all()

    def test_a_monitored_metric_without_a_value_is_not_a_lost_run(self, tmp_path, monkeypatch):
        values = iter([np.nan, 0.5, 0.25])
        odd, get = Metric("odd", lambda outcomes: next(values)), ExtensionPoint.get
        found = lambda point, name: odd if name == "odd" else get(point, name)  # noqa: E731
        monkeypatch.setattr(ExtensionPoint, "get", found)
        told = Notes()
        config = CONFIG.model_copy(update={"monitor": "odd"})
        state, weights = train(tmp_path / "checkpoints", reporter=told, config=config)
        assert told.notes == []
        assert len(state.history) == EPOCHS
        assert (state.best, state.best_epoch) == (0.5, 2)
        assert np.isfinite(weights).all()

    def test_weights_that_are_no_numbers_are_never_kept(self, tmp_path):
        """The loss may still look well in the step that spoils the weights."""
        spoilt = []

        def spoil(size, taken, rate):
            if taken == 5 and not spoilt:
                spoilt.append(taken)
                return 0.5

        told, folder = Notes(), tmp_path / "checkpoints"
        _, weights = train(folder, trainer=Trainer(spoil), reporter=told)
        assert spoilt
        assert len(told.notes) == 1
        assert np.isfinite(weights).all()


class TestMemory:
    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
    )
    def test_the_batch_is_halved_and_noted(self, tmp_path, error):
        sizes = []

        def small(size, taken, rate):
            sizes.append(size)
            if size > 1:
                raise error

        told = Notes()
        state, _ = train(tmp_path / "checkpoints", trainer=Trainer(small), reporter=told)
        assert sizes[:3] == [4, 2, 1]
        assert set(sizes[2:]) == {1}
        assert state.batch_size == 1
        assert ["continues with 2" in told.notes[0], "continues with 1" in told.notes[1]] == [
            True
        ] * 2
        # All images of each epoch, none twice.
        assert len(sizes[2:]) == 12 * EPOCHS

    def test_not_even_one_image_fits(self, tmp_path):
        def never(size, taken, rate):
            raise MemoryError

        with pytest.raises(TrainingError, match="not even a batch of one image fits"):
            train(tmp_path / "checkpoints", trainer=Trainer(never))

    def test_other_errors_are_no_want_of_memory(self, tmp_path):
        def wrong(size, taken, rate):
            raise RuntimeError("shapes do not match")

        with pytest.raises(RuntimeError, match="shapes do not match"):
            train(tmp_path / "checkpoints", trainer=Trainer(wrong))

    def test_a_smaller_batch_outlives_a_stop(self, tmp_path):
        def small(size, taken, rate):
            if size > 2:
                raise MemoryError

        folder = tmp_path / "checkpoints"
        whole = train(tmp_path / "whole", trainer=Trainer(small))
        with pytest.raises(CancelledError):
            train(folder, trainer=Trainer(small), should_stop=stop_at(3))
        told = Notes()
        same(train(folder, trainer=Trainer(small), reporter=told), whole)
        assert told.notes == []

    @pytest.mark.timeout(20)
    def test_with_a_loss_that_is_no_number_too(self, tmp_path):
        """Neither remedy undoes the other, over and over."""

        def both(size, taken, rate):
            if size > 2:
                raise MemoryError
            return np.nan if taken == 3 else None

        config, told = CONFIG.changed(checkpoint_seconds=1000), Notes()
        with pytest.raises(TrainingError, match="the loss became NaN again"):
            train(tmp_path / "checkpoints", trainer=Trainer(both), reporter=told, config=config)
        assert len(told.notes) == 2

    def test_a_validation_that_does_not_fit(self, tmp_path, monkeypatch):
        from counting import Network

        real = Network.predict_on_batch

        def small(network, images):
            if len(images) > 1:
                raise MemoryError
            return real(network, images)

        monkeypatch.setattr(Network, "predict_on_batch", small)
        state, _ = train(tmp_path / "checkpoints")
        assert state.batch_size == 1
        assert len(state.history) == EPOCHS
