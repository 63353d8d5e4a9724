"""Lines that are written as things happen, read while they are written, and cut off by kills."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import RunError, TrainingError
from napari_cellclf.models.training.reporter import StepReport
from napari_cellclf.runs import api
from napari_cellclf.runs import progress_log as progress_module
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import ProgressLog, RunReporter, Workload, read_progress


def test_lines_are_read_once(tmp_path):
    path, seen = tmp_path / "progress.jsonl", []
    log = ProgressLog(path, seen.append)
    assert read_progress(path) == ([], 0)
    log.write("note", message="größe\n=1+1")
    records, offset = read_progress(path)
    assert [record["message"] for record in records] == ["größe\n=1+1"]
    assert records == seen
    assert read_progress(path, offset) == ([], offset)
    log.write("done")
    records, _ = read_progress(path, offset)
    assert [record["event"] for record in records] == ["done"]
    log.close()


def test_a_file_that_is_not_there(tmp_path):
    assert read_progress(tmp_path / "no", 7) == ([], 7)


@given(cut=st.integers(0, 200))
def test_a_line_that_is_cut_off_is_passed_over(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("run") / "progress.jsonl"
    log = ProgressLog(path)
    for number in range(4):
        log.write("step", done=number, message="µ" * 5)
    log.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - min(cut, len(content))])
    whole = path.read_bytes().count(b"\n")
    assert len(read_progress(path)[0]) == whole
    # The next process begins a line of its own.
    log = ProgressLog(path)
    log.write("start")
    log.close()
    records, offset = read_progress(path)
    assert [r["event"] for r in records if r["event"] == "start"] == ["start"]
    assert len(records) in (whole + 1, whole + 2)
    assert offset == path.stat().st_size


def test_what_is_no_record_is_passed_over(tmp_path):
    path = tmp_path / "progress.jsonl"
    path.write_bytes(b'1\n{}\n\xff\n\n{"event": "note"}\nnull\n')
    assert read_progress(path)[0] == [{"event": "note"}]


def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    log = ProgressLog(tmp_path / "progress.jsonl")

    class Full:
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    log.close()
    log._file = Full()
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); free some"):
        log.write("step")


def test_a_log_that_cannot_be_opened(tmp_path):
    with pytest.raises(RunError, match="cannot be written"):
        ProgressLog(tmp_path / "no" / "progress.jsonl")


def test_of_a_long_log_the_last_lines_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module, "_MOST_BYTES", 100)
    log = ProgressLog(tmp_path / "progress.jsonl")
    for number in range(50):
        log.write("note", message=str(number))
    log.close()
    records, end = read_progress(tmp_path / "progress.jsonl")
    assert [record["message"] for record in records] == ["49"]
    assert read_progress(tmp_path / "progress.jsonl", end) == ([], end)


def test_what_ended_a_run_is_told_though_its_log_is_full(tmp_path, monkeypatch):
    def end(*_):
        raise TrainingError("what went wrong")

    def full(*_, **__):
        raise RunError("the disk is full")

    (tmp_path / "run.json").touch()
    made = SimpleNamespace(sha256="of the images")
    spec = SimpleNamespace(manifest_sha256=made.sha256, moved_sha256="", unlabelled_sha256="")
    monkeypatch.setattr(RunFolder, "spec", lambda run: spec)
    monkeypatch.setattr(RunFolder, "is_edited", lambda *_: False)
    monkeypatch.setattr(api, "load_dataset", lambda *_: made)
    monkeypatch.setattr(api, "_train", end)
    with pytest.raises(TrainingError):
        api.run_training(tmp_path)
    (record,) = read_progress(tmp_path / "progress.jsonl")[0]
    assert (record["event"], record["message"]) == ("error", "what went wrong")
    monkeypatch.setattr(ProgressLog, "write", full)
    with pytest.raises(TrainingError, match="what went wrong"):
        api.run_training(tmp_path)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


class TestReporter:
    WORK = Workload(images=10, features=8, head_steps=4, network_steps=6, batch_size=2)

    @pytest.fixture
    def told(self):
        return []

    @pytest.fixture
    def reporter(self, tmp_path, told, clock):
        log = ProgressLog(tmp_path / "progress.jsonl")
        yield RunReporter(log, told.append, self.WORK)
        log.close()

    def records(self, tmp_path: Path, event: str):
        lines = (tmp_path / "progress.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["event"] == event]

    def test_all_stages_make_one_progress(self, reporter, told, clock):
        assert self.WORK.total == 10 + 8 + 4 + 6 * 2 * 3
        for stage, count in (("prepare", 10), ("features", 8)):
            reporter.stage(stage)
            for done in range(1, count + 1):
                clock[0] += 1
                reporter.progress(Progress(done, count, stage))
        for stage, total in (("head", 4), ("network", 6)):
            reporter.stage(stage)
            for done in range(1, total + 1):
                clock[0] += 1
                reporter.step(StepReport(stage, 1, 1, done, total, 0.5, 0.5))
        numbers = [progress.done for progress in told]
        assert numbers == sorted(numbers)
        assert numbers[-1] == self.WORK.total
        assert {progress.total for progress in told} == {self.WORK.total}

    def test_at_most_four_lines_a_second(self, reporter, told, clock, tmp_path):
        reporter.stage("network")
        for done in range(1, 101):
            clock[0] += 0.01
            reporter.step(StepReport("network", 1, 1, done, 100, 0.5, 0.5))
        lines = self.records(tmp_path, "step")
        assert 4 <= len(lines) == len(told) <= 6
        # The last is never left out.
        assert lines[-1]["done"] == self.WORK.total

    def test_time_left_of_a_run_that_goes_on(self, reporter, clock, tmp_path):
        """What an earlier process did took this one no time."""
        reporter.stage("network")
        for done in (4, 5):
            reporter.step(StepReport("network", 1, 1, done, 6, 0.5, 0.5))
            clock[0] += 2
        assert [line["seconds_left"] for line in self.records(tmp_path, "step")] == [None, 2.0]

    def test_images_are_counted_through_all_splits(self, reporter, told, clock, tmp_path):
        """And how long the network will take is not known while they are prepared."""
        reporter.stage("prepare")
        for offset, count in ((0, 6), (6, 4)):
            reporter.part(offset)
            for done in range(1, count + 1):
                clock[0] += 1
                reporter.progress(Progress(done, count, "preparing images"))
        assert told[0].message == "preparing images 1 of 10"
        assert told[2].message == "preparing images 3 of 10, a few seconds left for this part"
        lines = self.records(tmp_path, "step")
        assert [line.get("image") for line in lines] == [1, 2, 3, 4, 5, None, 7, 8, 9, None]
        assert lines[7]["seconds_left"] == 2
        assert lines[7]["of_stage"]


class TestTimeLeft:
    """Of steps that take as long as a fake clock says."""

    @pytest.fixture
    def take(self, tmp_path, clock):
        """Take a step of so many seconds, and return how long the rest is said to take."""
        told = []
        log = ProgressLog(tmp_path / "progress.jsonl", told.append)

        def begin(work: Workload, epochs: int):
            reporter = RunReporter(log, lambda _: None, work)
            reporter.stage("network")
            steps, per_epoch = work.network_steps, work.network_steps // epochs

            def step(done: int, seconds: float, validation: float = 0.0):
                clock[0] += seconds
                epoch = (done - 1) // per_epoch + 1
                reporter.step(StepReport("network", epoch, epochs, done, steps, 0.5, 0.5))
                said = told[-1]["seconds_left"]
                if done % per_epoch == 0:
                    clock[0] += validation
                    reporter.epoch({"epoch": epoch})
                return said

            return step

        yield begin
        log.close()

    def test_of_a_machine_that_becomes_half_as_fast(self, take):
        step = take(Workload(0, 0, 0, 1000, 1), epochs=1)
        # What is compiled before the first step says nothing of the others.
        assert step(1, 300.0) is None
        said = [step(done, 1.0) for done in range(2, 201)]
        assert said == [1000 - done for done in range(2, 201)]
        said = {done: step(done, 2.0) for done in range(201, 401)}
        # Ten seconds later what is said is what the last steps imply, and never less from then on.
        assert all(said[done] == 2 * (1000 - done) for done in range(206, 401))

    def test_of_a_machine_that_becomes_twice_as_fast(self, take):
        step = take(Workload(0, 0, 0, 1000, 1), epochs=1)
        for done in range(1, 101):
            step(done, 2.0)
        said = {done: step(done, 1.0) for done in range(101, 201)}
        assert all(said[done] == 1000 - done for done in range(135, 201))

    def test_steps_that_take_a_minute_each(self, take):
        step = take(Workload(0, 0, 0, 10, 1), epochs=1)
        assert [step(done, 60.0) for done in (1, 2, 3)] == [None, 480, 420]
        # The last step was slower than any before.
        assert step(4, 180.0) == 6 * 180

    def test_validation_is_part_of_it_from_the_first_epoch_on(self, take):
        """Estimated from the steps in the first epoch, then as long as the last one took."""
        work = Workload(0, 0, 0, 40, 2, validation=60, measured=90)
        step = take(work, epochs=4)
        step(1, 50.0)
        # A step of two images takes a second; so do six images that are only predicted.
        assert step(2, 1.0) == 38 + 4 * 10 + 15
        for done in range(3, 11):
            step(done, 1.0, validation=25.0)
        assert [step(done, 1.0) for done in (11, 12)] == [29 + 3 * 25 + 15, 28 + 3 * 25 + 15]
