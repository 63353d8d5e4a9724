"""Writing a run down, its lock, and folders that make trouble."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from napari_cellclf.bundles.schema import NAME_PATTERN
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import (
    CancelledError,
    DatasetError,
    LeakageError,
    RunError,
    RunLockedError,
)
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs import create
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run, load_dataset, with_absolute_paths
from napari_cellclf.runs.describe import facts_of
from napari_cellclf.runs.folder import RunFolder, is_locked, locked

CONFIG = TrainingConfig(epochs=1)
ODD_NAMES = ("=1+1", "größe µ", "with space", "two\nlines", "'quoted'")


def dataset_of(rows, group_column=None, **fields) -> Dataset:
    table = pd.DataFrame(rows, columns=["path", "label", "split", "embryo"])
    classes = tuple(ClassSpec(name=name) for name in dict.fromkeys(table["label"]))
    return Dataset(table, classes, group_column, **fields)


def plain(folder: Path) -> Dataset:
    return dataset_of(
        [(str(folder / f"{n}.png"), "ab"[n % 2], "train", f"e{n}") for n in range(4)], "embryo"
    )


def test_what_is_written_is_what_is_read(tmp_path, make_images):
    dataset = read_dataset(make_images(names=ODD_NAMES)).split("random", seed=1)
    run = create_run(dataset, CONFIG, tmp_path / "run", preset="fluorescence")
    spec, found = run.spec(), load_dataset(run)
    assert spec.config == CONFIG
    assert spec.preset == "fluorescence"
    assert spec.name == "run"
    assert sorted(found.class_names) == sorted(ODD_NAMES)
    pd.testing.assert_frame_equal(found.table, dataset.table)
    assert found.sha256 == dataset.sha256 == spec.manifest_sha256
    assert not run.is_finished


def test_no_cell_of_its_table_is_a_formula(tmp_path, make_images):
    dataset = read_dataset(make_images(names=ODD_NAMES)).split("random", seed=1)
    run = create_run(dataset, CONFIG, tmp_path / "run")
    cells = run.dataset_file.read_text(encoding="utf-8").replace("\n", ",").split(",")
    assert not [cell for cell in cells if cell.strip('"')[:1] in ("=", "+", "@")]


@pytest.mark.parametrize("name", ["größe", "a run", "=run", "-run", "run\n", ".run", "r" * 101])
def test_folders_of_runs_may_have_any_name(tmp_path, name):
    run = create_run(plain(tmp_path), CONFIG, tmp_path / name)
    assert run.path == tmp_path / name
    assert re.fullmatch(NAME_PATTERN, run.spec().name)
    assert load_dataset(run).sha256 == plain(tmp_path).sha256


@pytest.mark.parametrize("parent", ["größe µ", "two\nlines", "=1+1", "a b/c d"])
def test_folders_above_may_have_any_name(tmp_path, parent):
    run = create_run(plain(tmp_path), CONFIG, tmp_path / parent / "run")
    assert load_dataset(RunFolder(run.path)).sha256 == plain(tmp_path).sha256


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dataset.csv").write_text("mine")
    with pytest.raises(RunError, match="holds files already; choose a new folder"):
        create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    assert (tmp_path / "run" / "dataset.csv").read_text() == "mine"


def test_a_run_is_never_overwritten(tmp_path):
    run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    before = run.spec()
    with pytest.raises(RunError, match="holds files already"):
        create_run(plain(tmp_path), CONFIG.changed(seed=4), tmp_path / "run")
    assert run.spec() == before


@pytest.mark.parametrize("moment", ["write_dataset_csv", "replace"])
def test_killed_while_it_is_written_down(tmp_path, monkeypatch, moment):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((create, moment) if moment != "replace" else (Path, "replace")), die)
        with pytest.raises(KeyboardInterrupt):
            create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").is_run
    run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    assert len(load_dataset(run)) == 4
    assert not list(run.path.glob(".*"))


@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, kind):
    if kind == "read-only":
        # Of the superuser, who runs tests in containers, permissions would not hold.
        def refuse(*_, **__):
            raise PermissionError(13, os.strerror(13))

        monkeypatch.setattr(Path, "write_text", refuse)
    else:
        (tmp_path / "above").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .*; choose another folder"):
        create_run(plain(tmp_path), CONFIG, tmp_path / "above" / "run")


class TestDataThatIsRefused:
    def test_one_group_on_both_sides(self, tmp_path):
        rows = [("/1.png", "a", "train", "e1"), ("/2.png", "b", "train", "e2")]
        leaking = dataset_of([*rows, ("/3.png", "a", "test", "e1")], "embryo")
        with pytest.raises(LeakageError, match="e1"):
            create_run(leaking, CONFIG, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        allowed = dataclasses.replace(leaking, leakage_allowed=True)
        run = create_run(allowed, CONFIG, tmp_path / "run")
        assert load_dataset(run).leaks() == ("e1",)
        assert run.spec().leakage_allowed

    def test_a_class_without_training_images(self, tmp_path):
        rows = [("/1.png", "a", "train", ""), ("/2.png", "b", "test", "")]
        with pytest.raises(DatasetError, match="no training image is of class b"):
            create_run(dataset_of(rows), CONFIG, tmp_path / "run")

    def test_one_class(self, tmp_path):
        with pytest.raises(DatasetError, match="at least 2"):
            create_run(dataset_of([("/1.png", "a", "train", "")]), CONFIG, tmp_path / "run")

    def test_a_new_class_without_training_images(self, tmp_path):
        rows = [("/1.png", "HUVEC", "train", ""), ("/2.png", "new", "test", "")]
        config = CONFIG.changed(continue_from="rxrx1-celltype")
        with pytest.raises(DatasetError, match="no training image is of class new"):
            create_run(dataset_of(rows), config, tmp_path / "run")

    def test_classes_of_the_model_need_no_new_images(self, tmp_path):
        rows = [("/1.png", "new", "train", ""), ("/2.png", "HUVEC", "train", "")]
        config = CONFIG.changed(continue_from="rxrx1-celltype")
        run = create_run(dataset_of(rows), config, tmp_path / "run")
        names = tuple(spec.name for spec in run.spec().classes)
        assert names == ("HEPG2", "HUVEC", "RPE", "U2OS", "new")
        assert load_dataset(run).class_names == names


def test_paths_in_settings_hold_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.cellclf").mkdir()
    Path("old.weights.h5").write_text("")
    Path("imagenet").mkdir()
    found = with_absolute_paths(
        CONFIG.changed(continue_from="old.cellclf", weights="old.weights.h5")
    )
    assert found.continue_from == str(tmp_path / "old.cellclf")
    assert found.weights == str(tmp_path / "old.weights.h5")
    by_name = CONFIG.changed(continue_from="rxrx1-celltype", weights="imagenet")
    assert with_absolute_paths(by_name) == by_name


class TestSpec:
    def test_no_run(self, tmp_path):
        with pytest.raises(RunError, match="is not a training run"):
            RunFolder(tmp_path).spec()

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}"])
    def test_damaged(self, tmp_path, content):
        (tmp_path / "run.json").write_bytes(content)
        with pytest.raises(RunError, match=r"cannot be (used|read)") as raised:
            run_training(tmp_path)
        assert "\n" not in str(raised.value)

    def test_of_a_later_version(self, tmp_path):
        run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
        found = json.loads(run.spec_file.read_text())
        run.spec_file.write_text(json.dumps(found | {"format_version": 2}))
        with pytest.raises(RunError, match=r"format_version.*another version"):
            run.spec()


class TestLock:
    def test_one_process_at_a_time(self, tmp_path):
        run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
        hold = (
            "import sys, time, pathlib\n"
            "from napari_cellclf.runs.folder import RunFolder\n"
            "from napari_cellclf.runs.folder import locked\n"
            "with locked(RunFolder(pathlib.Path(sys.argv[1]))):\n"
            "    print('held', flush=True)\n"
            "    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", hold, str(run.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            try:
                assert other.stdout.readline() == "held\n"
                assert is_locked(run)
                with pytest.raises(RunLockedError, match="another process is training in"):
                    run_training(run.path)
            finally:
                other.kill()
        # The system let go of it, though it was killed.
        assert not is_locked(run)
        assert not run.log.exists()

    def test_twice_in_one_process(self, tmp_path):
        run = RunFolder(tmp_path)
        with locked(run), pytest.raises(RunLockedError), locked(run):
            pass
        with locked(run):
            pass

    def test_where_nothing_can_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        run = RunFolder(tmp_path / "file" / "run")
        with pytest.raises(RunError, match="make it writable"), locked(run):
            pass


@pytest.mark.parametrize(
    "name", ["run.json", "dataset.csv", "progress.jsonl", "lock", "stop", "report", "checkpoints"]
)
def test_nothing_in_a_run_is_followed_elsewhere(tmp_path: Path, name: str) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run, elsewhere):
        folder.mkdir()
    kept = elsewhere / "kept"
    kept.write_text("{}")
    (run / "run.json").write_text("{}")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(elsewhere if name in ("report", "checkpoints") else kept)
    with pytest.raises(RunError, match=f"{name} is a link"):
        RunFolder(run).spec()
    assert kept.read_text() == "{}"


def test_a_link_within_is_not_followed_either(tmp_path: Path) -> None:
    inside = tmp_path / "checkpoints/000001"
    inside.mkdir(parents=True)
    (inside / "arrays.npz").symlink_to("/etc/hostname")
    with pytest.raises(RunError, match=r"arrays\.npz is a link"):
        RunFolder(tmp_path).spec()


@pytest.mark.parametrize("content", [b"[" * 100_000, b" " * (1 << 22) + b"{}"])
def test_a_deep_or_huge_description_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read"):
        RunFolder(tmp_path).spec()


def test_a_table_that_was_changed_is_not_trained_on(tmp_path: Path) -> None:
    run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    table = run.dataset_file.read_text()
    assert "train" in table
    run.dataset_file.write_text(table.replace("train", "test", 1))
    with pytest.raises(RunError, match="is not as it was when the run was made"):
        run_training(run.path)


def test_settings_that_were_edited_are_accepted_only_when_told(tmp_path: Path) -> None:
    run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    assert not run.is_edited(run.spec())
    found = json.loads(run.spec_file.read_text())
    found["config"]["learning_rate"] = 0.125
    run.spec_file.write_text(json.dumps(found))
    with pytest.raises(RunError, match=r"run\.json is not as it was .* --accept-changes"):
        run_training(run.path)

    def stop() -> bool:
        return True

    with pytest.raises(CancelledError):
        run_training(run.path, accept_changes=True, should_stop=stop)
    spec = run.spec()
    assert spec.changes_accepted
    assert not run.is_edited(spec)
    assert spec.config.learning_rate == 0.125
    assert "changes that were made in run.json" in run.log.read_text()
    preprocessing = Preprocessing(channels=({"name": "DNA"},), size=(8, 8))
    facts = facts_of(spec, load_dataset(run), preprocessing, "CPU")
    assert facts["changed since"] == "yes, settings or images, by hand"
    untouched = spec.model_copy(update={"changes_accepted": False})
    assert "changed since" not in facts_of(untouched, load_dataset(run), preprocessing, "CPU")


def test_a_name_that_no_model_can_have_is_refused(tmp_path: Path) -> None:
    run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    found = json.loads(run.spec_file.read_text())
    run.spec_file.write_text(json.dumps(found | {"name": "../elsewhere"}))
    with pytest.raises(RunError, match="cannot be used"):
        run.spec()


def test_a_run_of_an_earlier_version_has_no_checksum(tmp_path: Path) -> None:
    run = create_run(plain(tmp_path), CONFIG, tmp_path / "run")
    found = json.loads(run.spec_file.read_text())
    for key in ("spec_sha256", "moved_sha256", "changes_accepted"):
        del found[key]
    run.spec_file.write_text(json.dumps(found))
    with pytest.raises(RunError, match="has no checksum, as those of earlier versions"):
        run_training(run.path)
