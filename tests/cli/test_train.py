"""cellclf train: what it refuses, how it is stopped, and folds."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from imagecodecs import png_encode

from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs import api, cross_validation
from napari_cellclf.runs.api import RunResult
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import RunReporter, read_progress

TINY = (
    *("--architecture", "compact-cnn", "--epochs", 2, "--batch-size", 4),
    *("--set", "parameters.width=8", "--set", "parameters.depth=2"),
    *("--set", "size=[32,32]", "--set", "crop=null", "--set", "steps_per_epoch=2"),
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root, random = tmp_path / "images", np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for image in range(9):
            pixels = random.normal(40 + 90 * number, 20, (32, 32)).clip(0, 255)
            (root / name / f"{image}.png").write_bytes(png_encode(pixels.astype(np.uint8)))
    return root


@pytest.fixture
def table(images: Path) -> Path:
    """The same images, three in each of three batches of a class."""
    lines = ["path,label,batch"]
    for path in sorted(images.rglob("*.png")):
        lines.append(f"{path},{path.parent.name},b{int(path.stem) // 3}")
    file = images.parent / "table.csv"
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """On which folds are trained one after the other, by this process."""
    monkeypatch.setattr("napari_cellclf.inference.engine_library.usable_cores", lambda: 2)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """The runs that would have been trained."""
    runs: list[RunFolder] = []

    def note(folder: Path, **_: object) -> RunResult:
        runs.append(RunFolder(Path(folder)))
        return RunResult(runs[-1])

    monkeypatch.setattr(api, "run_training", note)
    return runs


def refused(result, sentence: str) -> None:
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("cellclf: error: ")
    assert sentence in line


def test_presets_are_listed(cellclf):
    found = cellclf("train", "--list-presets")
    assert found.code == 0
    assert "drosophila-seed\n    The second project" in found.out


def test_settings_reach_the_run(cellclf, images, tmp_path, trained):
    found = cellclf("train", images, "--out", tmp_path / "run", *TINY, "--seed", 7)
    assert found.code == 0
    (run,) = trained
    config = run.spec().config
    assert (config.epochs, config.batch_size, config.seed, config.size) == (2, 4, 7, (32, 32))
    assert config.parameters["width"] == 8
    assert run.spec().preset == "fluorescence"
    assert f"model:  {run.bundle}" in found.lines


def test_of_a_preset_without_fine_tuning_epochs_mean_those_of_the_head(
    cellclf, images, tmp_path, trained
):
    options = ("--preset", "drosophila-seed", "--epochs", 3, "--learning-rate", 0.01)
    assert cellclf("train", images, "--out", tmp_path / "run", *options).code == 0
    config = trained[0].spec().config
    assert (config.head_epochs, config.epochs, config.head_learning_rate) == (3, 0, 0.01)


class TestRefused:
    def test_a_folder_that_is_no_run(self, cellclf, images):
        refused(cellclf("train", images), "is not a training run to resume; add --out")

    def test_data_that_are_not_there(self, cellclf, tmp_path):
        result = cellclf("train", tmp_path / "no", "--out", tmp_path / "run")
        refused(result, str(tmp_path / "no"))

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            (("--epochs", 50), "--epochs"),
            (("--set", "seed=3", "--preset", "fluorescence"), "--preset, --set"),
            (("--split", "random", "--allow-leakage"), "--split, --allow-leakage"),
            (("--seed", 3), "--seed"),
        ],
    )
    def test_other_settings_for_a_run_that_goes_on(
        self, cellclf, images, tmp_path, trained, options, named
    ):
        dataset = read_dataset(images).split("random")
        create_run(dataset, TrainingConfig(epochs=1), tmp_path / "run")
        result = cellclf("train", tmp_path / "run", *options)
        refused(result, f"{named} cannot be changed for a run that is resumed")
        assert trained == []
        assert cellclf("train", tmp_path / "run", "--root", images).code == 0

    def test_a_root_for_a_new_run(self, cellclf, images, tmp_path):
        result = cellclf("train", images, "--out", tmp_path / "run", "--root", images)
        refused(result, "--root is for a run that is resumed")

    def test_a_run_twice(self, cellclf, images, tmp_path, trained):
        assert cellclf("train", images, "--out", tmp_path / "run").code == 0
        refused(cellclf("train", images, "--out", tmp_path / "run"), "resume the run in it")

    @pytest.mark.parametrize("split", ["1-fold", "x-fold", "-fold"])
    def test_folds_that_are_no_number(self, cellclf, images, tmp_path, split):
        result = cellclf("train", images, "--out", tmp_path / "run", f"--split={split}")
        refused(result, f"--split {split} is not a number of folds")

    def test_validation_images_of_folds_without_folds(self, cellclf, images, tmp_path, trained):
        result = cellclf("train", images, "--out", tmp_path / "run", "--validation", "0.2")
        refused(result, "--validation 0.2 is for --split leave-one-out or a number of folds")
        assert trained == []

    def test_leakage(self, cellclf, table, tmp_path, trained):
        options = ("--out", tmp_path / "run", "--group-by", "batch", "--split", "random")
        refused(cellclf("train", table, *options), "b0")
        assert trained == []
        assert cellclf("train", table, *options, "--allow-leakage").code == 0
        assert trained[0].spec().leakage_allowed

    @pytest.mark.parametrize(
        ("option", "sentence"),
        [
            (("--preset", "no"), "there is no preset 'no'"),
            (("--set", "epoch=3"), "epoch is not a setting"),
            (("--set", "learning_rate=nan"), "learning_rate cannot be nan"),
            (("--continue-from", "no"), "no"),
            (("--architecture", "no"), "no"),
        ],
    )
    def test_settings_that_cannot_be(self, cellclf, images, tmp_path, option, sentence):
        refused(cellclf("train", images, "--out", tmp_path / "run", *option), sentence)

    @pytest.mark.parametrize(
        "option", [("--epochs", 0), ("--batch-size", "x"), ("--set", "x"), ("--learning-rate", "x")]
    )
    def test_wrong_command_lines(self, cellclf, images, tmp_path, option):
        assert cellclf("train", images, "--out", tmp_path / "run", *option).code == 2

    def test_a_folder_that_cannot_be_written(self, cellclf, images, tmp_path):
        (tmp_path / "file").write_text("")
        result = cellclf("train", images, "--out", tmp_path / "file" / "run")
        refused(result, "cannot be written")


class TestFolds:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def report(folder: Path, role: str) -> SimpleNamespace:
            return SimpleNamespace(summary=lambda: f"all together: {role}")

        monkeypatch.setattr(cross_validation, "report_folds", report)

    def test_one_group_after_the_other(self, cellclf, table, tmp_path, trained):
        options = ("--split", "leave-one-out", "--group-by", "batch")
        result = cellclf("train", table, "--out", tmp_path / "out", *options)
        assert result.code == 0
        assert "all together: leave-one-group-out" in result.lines
        held_out = [set(load_dataset(run).test.groups) for run in trained]
        assert held_out == [{"b0"}, {"b1"}, {"b2"}]
        assert all(not load_dataset(run).leaks() for run in trained)

    def test_k_parts(self, cellclf, images, tmp_path, trained):
        command = ("train", images, "--out", tmp_path / "out", "--split", "3-fold")
        result = cellclf(*command)
        assert result.code == 0
        assert "all together: k-fold" in result.lines
        assert len(trained) == 3
        held_out = [path for run in trained for path in load_dataset(run).test.paths]
        assert len(held_out) == len(set(held_out)) == 18
        # The same command goes on where it was.
        assert cellclf(*command).code == 0
        assert [run.path for run in trained[3:]] == [run.path for run in trained[:3]]

    @pytest.mark.parametrize("split", ["3-fold", "leave-one-out"])
    def test_validation_images_are_not_tested(self, cellclf, table, tmp_path, trained, split):
        options = ("--split", split, "--group-by", "batch", "--validation", 0.5)
        assert cellclf("train", table, "--out", tmp_path / "out", *options).code == 0
        for run in trained:
            dataset = load_dataset(run)
            parts = [set(one.groups) for one in (dataset.train, dataset.validation, dataset.test)]
            assert sorted(name for part in parts for name in part) == ["b0", "b1", "b2"]


def test_folds_beside_one_another(cellclf, images, tmp_path, monkeypatch):
    """On eight cores, two processes that train for real."""
    monkeypatch.setattr("napari_cellclf.inference.engine_library.usable_cores", lambda: 8)
    monkeypatch.setattr("napari_cellclf.cli.folds.free_memory", lambda: None)
    out = tmp_path / "out"
    command = ("train", images, "--out", out, "--split", "2-fold", *TINY, "--set", "epochs=1")
    result = cellclf(*command)
    assert result.code == 0, result.err
    assert "training 2 runs at a time" in result.err
    assert "run 2 of 2: network, epoch 1 of 1" in result.err
    assert sum(line.startswith("model:") for line in result.lines) == 2
    assert "all held-out images: 18 images" in result.out
    for log in out.glob("folds/*/progress.jsonl"):
        assert [one["event"] for one in read_progress(log)[0]].count("start") == 1
    # Finished ones are not begun again.
    again = cellclf(*command, "--json")
    assert again.code == 0, again.err
    assert [json.loads(line)["metrics"]["n"] for line in again.lines] == [9, 9, 18]


def test_a_folder_in_which_nothing_was_trained_can_be_used_again(cellclf, images, tmp_path):
    """A wrong parameter is found when the network is built, after the run was written down."""
    out = tmp_path / "run"
    assert cellclf("train", images, "--out", out, *TINY, "--set", "parameters.width=7").code == 1
    assert RunFolder(out).is_run
    done = cellclf("train", images, "--out", out, *TINY)
    assert done.code == 0, done.err
    assert RunFolder(out).is_finished
    assert [one["event"] for one in read_progress(RunFolder(out).log)[0]].count("start") == 1
    again = cellclf("train", images, "--out", out, *TINY)
    assert again.code == 1
    assert "holds files already" in again.err


def test_folds_interrupted_terminated_and_finished(cellclf, images, tmp_path, monkeypatch):
    """Each stop ends with 130 and one line; the same command goes on, to one report of all."""
    real = RunReporter.epoch

    def send(number: int) -> Callable[..., None]:
        def epoch(reporter: RunReporter, record: dict[str, object]) -> None:
            real(reporter, record)
            os.kill(os.getpid(), number)

        return epoch

    # The report of each fold is the same as that of any run.
    monkeypatch.setattr("napari_cellclf.runs.training.write_report", lambda *_, **__: None)
    out = tmp_path / "out"
    # Of the head alone, which is quick.
    stages = ("--set", "head_epochs=2", "--set", "epochs=0")
    command = ("train", images, "--out", out, "--split", "2-fold", *TINY, *stages)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        with monkeypatch.context() as patch:
            patch.setattr(RunReporter, "epoch", send(number))
            result = cellclf(*command)
        assert result.code == 130
        assert result.err.splitlines()[-1] == "cellclf: interrupted"
        assert "Traceback" not in result.err
        assert result.out == "" or number == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    records, _ = read_progress(next((out / "folds").iterdir()) / "progress.jsonl")
    stops = [record["message"] for record in records if record["event"] == "stopped"]
    assert stops
    assert all("stopped" in message for message in stops)
    result = cellclf(*command)
    assert result.code == 0
    assert "all held-out images: 18 images" in result.out
    assert (out / "report" / "report.html").is_file()
    assert len(list((out / "folds").glob("*/model.cellclf"))) == 2
