"""Whole runs of a small network: stopped anywhere, killed, moved, finished, continued."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import RoundingSpec
from napari_cellclf.core.image import Image
from napari_cellclf.errors import CancelledError, CheckpointError, DatasetError, RunError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.read import read_image
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress

#: Everything that draws random numbers, and both stages.
CONFIG = TrainingConfig(
    parameters={"width": 8, "depth": 2, "dropout": 0.3},
    normalization={"kind": "scale_linear"},
    augmentation=AugmentationConfig.off(flips=True, noise=0.1, rotation=0.1),
    mixup=0.2,
    ema=0.9,
    head_epochs=2,
    epochs=12,
    batch_size=4,
    reproducible=True,
    checkpoint_seconds=0.01,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cache that is shared here: a run on the same images finds them prepared."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(autouse=True)
def cache(prepared, monkeypatch):
    monkeypatch.setenv("CELLCLF_CACHE", str(prepared))
    return prepared


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    from imagecodecs import png_encode

    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number, name in enumerate(("=dark", "hell µ")):
        (root / name).mkdir()
        for image in range(12):
            pixels = random.normal(40 + 90 * number, 20, (32, 32)).clip(0, 255)
            (root / name / f"{image}.png").write_bytes(png_encode(pixels.astype(np.uint8)))
    return root


@pytest.fixture(scope="module")
def dataset(images):
    return read_dataset(images).split("random", seed=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, prepared, dataset):
    """A run that nothing interrupts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLCLF_CACHE", str(prepared))
        run = create_run(dataset, CONFIG, tmp_path_factory.mktemp("runs") / "whole")
        return run_training(run.path)


@pytest.fixture
def no_report(monkeypatch):
    """Drawing takes longer than all else here."""
    monkeypatch.setattr("napari_cellclf.runs.training.write_report", lambda *_, **__: None)


def weights_of(bundle: Path) -> list[np.ndarray]:
    return load_classifier(bundle, engine="keras", self_test=False).engine.network.get_weights()


def same_weights(run: RunFolder, whole) -> None:
    for found, expected in zip(weights_of(run.bundle), weights_of(whole.bundle), strict=True):
        np.testing.assert_array_equal(found, expected)


def events(run: RunFolder, kind: str) -> list[dict]:
    return [record for record in read_progress(run.log)[0] if record["event"] == kind]


class TestAFinishedRun:
    def test_its_log(self, whole):
        records, _ = read_progress(whole.folder.log)
        stages = [record["stage"] for record in records if record["event"] == "stage"]
        assert stages == ["prepare", "build", "features", "head", "network", "evaluate", "save"]
        assert records[0]["event"] == "start"
        assert "CPU" in records[0]["device"] or "GPU" in records[0]["device"]
        assert records[-1]["event"] == "done"
        steps = [record["done"] for record in records if record["event"] == "step"]
        assert steps == sorted(steps)
        assert steps[-1] == records[0]["total"]

    def test_it_records_its_precision(self, whole):
        spec = whole.folder.spec()
        assert (spec.config.precision, spec.precision) == ("auto", "float32")

    def test_it_learnt_what_is_plain_to_see(self, whole):
        assert whole.evaluation.role == "test"
        assert whole.evaluation.headline()["accuracy"] > 0.5
        assert whole.metrics["evaluations"][0]["role"] == "test"

    def test_the_model_answers_files_as_the_run_did(self, whole):
        """Training and prediction prepare pixels in one way."""
        with (whole.folder.report / "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["role"] == "test"]
        files = [row["image"].removeprefix("'") for row in rows]
        found = load_classifier(whole.bundle, engine="keras").predict(files)
        names = [spec.name for spec in whole.folder.spec().classes]
        columns = [next(c for c in rows[0] if c.endswith(f"p_{name}")) for name in names]
        expected = [[float(row[column]) for column in columns] for row in rows]
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)

    def test_running_it_again_changes_nothing(self, whole):
        def times():
            files = [path for path in whole.folder.path.rglob("*") if path.is_file()]
            return {path: path.stat().st_mtime_ns for path in files}

        before = times()
        again = run_training(whole.folder.path)
        assert again.evaluation is None
        assert again.metrics == whole.metrics
        assert times() == before


def test_stopped_in_every_part(tmp_path, dataset, whole, no_report, monkeypatch, cache):
    """While images are prepared, in each stage, in a validation, in the evaluation."""
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    run = create_run(dataset, CONFIG, tmp_path / "run")
    where: list[str] = []

    def stop_when(event: str, count: int, **fields):
        def look(record):
            nonlocal count
            if record["event"] == event and fields.items() <= record.items():
                count -= 1
                if not count:
                    run.stop_file.touch()

        with pytest.raises(CancelledError, match="stopped"):
            run_training(run.path, on_event=look)
        where.append(events(run, "stopped")[-1]["message"])

    stop_when("step", 1, stage="prepare")
    stop_when("step", 1, stage="head")
    stop_when("epoch", 2, stage="head")
    stop_when("epoch", 3, stage="network")
    stop_when("stage", 1, stage="evaluate")

    def die(*_, **__):
        raise KeyboardInterrupt

    # A run without its report is not a finished one.
    with monkeypatch.context() as patch:
        patch.setattr("napari_cellclf.runs.training.write_report", die)
        with pytest.raises(KeyboardInterrupt):
            run_training(run.path)
    assert not run.is_finished
    run_training(run.path)
    same_weights(run, whole)
    assert not run.stop_file.exists()
    assert len(events(run, "start")) == 7
    assert "stopped in epoch 4 of 12" in where[3]
    # Not one epoch was trained twice.
    epochs = [(record["stage"], record["epoch"]) for record in events(run, "epoch")]
    assert len(set(epochs)) == len(epochs) == CONFIG.head_epochs + CONFIG.epochs


def kill_when(run: RunFolder, count: int, **fields) -> None:
    """Train in another process, and kill it as soon as its log shows so many such lines."""
    before = len(read_progress(run.log)[0])
    command = [sys.executable, "-m", "napari_cellclf", "train", str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while child.poll() is None:
            records = read_progress(run.log)[0][before:]
            if sum(fields.items() <= record.items() for record in records) >= count:
                child.kill()
                break
            time.sleep(0.002)
        child.wait()
        assert child.returncode == -signal.SIGKILL, child.stderr.read().decode()


def test_killed_then_damaged(tmp_path, dataset, whole, no_report):
    """SIGKILL leaves no chance to tidy up; then the newest state is cut off, too."""
    run = create_run(dataset, CONFIG, tmp_path / "run")
    kill_when(run, 4, event="epoch", stage="network")
    newest = sorted(run.checkpoints.glob("0*"))[-1]
    with (newest / "arrays.npz").open("r+b") as file:
        file.truncate(1000)
    shutil.copytree(run.checkpoints, tmp_path / "damaged")
    run_training(run.path)
    same_weights(run, whole)
    note = events(run, "note")[0]
    assert f"checkpoint {newest.name} is damaged" in note["message"]
    assert [record["resumed"] for record in events(run, "start")][-1]

    worst = create_run(dataset, CONFIG, tmp_path / "worst")
    shutil.copytree(tmp_path / "damaged", worst.checkpoints)
    for state in worst.checkpoints.glob("0*/state.json"):
        state.write_bytes(b"")
    with pytest.raises(CheckpointError, match="delete that folder to train from the start"):
        run_training(worst.path)
    assert "delete that folder" in events(worst, "error")[-1]["message"]


class TestImagesThatChange:
    @pytest.fixture
    def begun(self, tmp_path, images, no_report):
        """A run that was stopped in its last stage, on images of its own."""
        own = tmp_path / "images"
        shutil.copytree(images, own)
        config = CONFIG.changed(head_epochs=0, epochs=2, ema=0)
        run = create_run(read_dataset(own).split("random", seed=0), config, tmp_path / "run")

        def look(record):
            if record["event"] == "epoch":
                run.stop_file.touch()

        with pytest.raises(CancelledError):
            run_training(run.path, on_event=look)
        return run, own

    def test_moved_missing_and_bad_ones(self, begun, tmp_path):
        run, own = begun
        moved = tmp_path / "elsewhere" / "größe µ"
        moved.parent.mkdir()
        own.rename(moved)
        with pytest.raises(DatasetError, match="images can"):
            run_training(run.path)
        assert not run.is_finished
        train = [path.name for path in moved.rglob("*.png")]
        assert len(train) == 24
        first = Path(load_train(run)[0])
        victim = moved / first.parent.name / first.name
        victim.write_bytes(b"no image")
        run_training(run.path, root=moved)
        assert run.is_finished
        note = events(run, "note")[0]
        assert str(victim) in note["message"]
        assert "is left out" in note["message"]


def load_train(run: RunFolder) -> tuple[str, ...]:
    return load_dataset(run).train.paths


def test_continued_with_more_classes_keeps_what_it_knew(whole, images, tmp_path):
    from napari_cellclf.models.training.network import initial_network

    shutil.copytree(images, tmp_path / "more")
    shutil.copytree(images / "=dark", tmp_path / "more" / "between")
    dataset = read_dataset(tmp_path / "more").split("random", seed=0)
    config = CONFIG.changed(continue_from=str(whole.folder.path), head_epochs=0)
    run = create_run(dataset, config, tmp_path / "run")
    classes = run.spec().classes
    old = [spec.name for spec in whole.folder.spec().classes]
    assert [spec.name for spec in classes] == [*old, "between"]
    classifier = load_classifier(whole.bundle, engine="keras")
    network = initial_network(run.spec().config, classifier.preprocessing, classes).network
    prepared = np.stack([classifier.preprocessing(read_image(p)) for p in dataset.paths])
    before = np.asarray(classifier.engine(prepared))
    after = np.asarray(network.predict_on_batch(prepared))
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    known = after[:, :2] / after[:, :2].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(known, before, atol=1e-5)


def test_continuing_does_not_test_on_images_that_were_trained_on(
    whole, images, dataset, tmp_path, no_report
):
    """Old images lie elsewhere under other names, some as TIFF; a few new ones come with them."""
    import tifffile
    from imagecodecs import png_encode

    old = {}
    random = np.random.default_rng(7)
    for number, (path, label, split) in enumerate(
        zip(dataset.paths, dataset.table["label"], dataset.table["split"], strict=True)
    ):
        copy = tmp_path / "superset" / label / f"renamed {number}.tif"
        copy.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(copy, read_image(path).to_cyx()[0])
        old[str(copy)] = split
    for label in dataset.class_names:
        for number in range(8):
            pixels = random.integers(0, 255, (32, 32), dtype=np.uint8)
            (tmp_path / "superset" / label / f"new {number}.png").write_bytes(png_encode(pixels))
    superset = read_dataset(tmp_path / "superset").split("random", seed=3)
    given = dict(zip(superset.paths, superset.table["split"], strict=True))
    assert any(old[path] == "train" and given[path] == "test" for path in old)
    config = CONFIG.changed(continue_from=str(whole.folder.path), head_epochs=0, epochs=1)
    result = run_training(create_run(superset, config, tmp_path / "run").path)
    made = load_dataset(result.folder)
    splits = dict(zip(made.paths, made.table["split"], strict=True))
    assert {path: splits[path] for path in old} == old
    assert {path: splits[path] for path in splits.keys() - old} == {
        path: given[path] for path in splits.keys() - old
    }
    assert {Path(path) for path in result.evaluation.ids} == {Path(p) for p in made.test.paths}
    note = events(result.folder, "note")[0]["message"]
    assert f"has seen {len(old)} of these images" in note
    # Its own bundle knows all of them again.
    seen = ModelBundle.load(result.bundle).seen_images()
    assert sorted(seen.splits.values()) == sorted(splits.values())
    # The table that was written then is this run's; edited once more, it is refused.
    assert result.folder.spec().moved_sha256 == made.sha256 != superset.sha256
    shutil.rmtree(result.bundle)
    table = result.folder.dataset_file.read_text()
    result.folder.dataset_file.write_text(table.replace(",test", ",train"))
    with pytest.raises(RunError, match=r"dataset\.csv is not as it was when the run was made"):
        run_training(result.folder.path)


def test_continuing_says_what_groups_move_and_what_is_left_to_test_on(
    whole, dataset, tmp_path, no_report
):
    """Every group holds images that the model was trained on."""
    table = dataset.table.assign(plate=[f"p{n // 2 % 3}" for n in range(len(dataset))])
    mixed = replace(dataset, table=table, group_column="plate").split(seed=1)
    assert set(mixed.table["split"]) == {"train", "validation", "test"}
    config = CONFIG.changed(continue_from=str(whole.folder.path), head_epochs=0, epochs=1)
    result = run_training(create_run(mixed, config, tmp_path / "run").path)
    assert set(load_dataset(result.folder).table["split"]) == {"train"}
    moved = int((dataset.table["split"] != "train").sum())
    note = events(result.folder, "note")[0]["message"]
    assert f"{moved} were on another side and follow their groups" in note
    assert "none is left for validation and test: add images of groups" in note


def test_copies_on_both_sides_of_the_split_are_told(dataset, tmp_path):
    table = dataset.table
    trained = table.index[table["split"] == "train"][0]
    copy = tmp_path / "copy.png"
    shutil.copyfile(table["path"][trained], copy)
    extra = table.loc[[trained]].assign(path=str(copy), split="test")
    both = replace(dataset, table=pd.concat([table, extra]))
    run = create_run(both, CONFIG.changed(head_epochs=0, epochs=1), tmp_path / "run")
    result = run_training(run.path)
    count = len(dataset.test) + 1
    said = f"1 of {count} test images has exactly the pixels of training images"
    assert said in (result.folder.report / "report.html").read_text(encoding="utf-8")
    assert any(said in limit for limit in ModelBundle.load(result.bundle).spec.limits)


def test_fine_tuning_that_makes_it_worse_is_not_kept(whole, dataset, tmp_path):
    """At an absurd rate it cannot do better than the model that it continues."""
    config = CONFIG.changed(
        continue_from=str(whole.folder.path), head_epochs=0, epochs=2, learning_rate=5.0
    )
    result = run_training(create_run(dataset, config, tmp_path / "run").path)
    same_weights(result.folder, whole)
    said = "fine-tuning was not kept: the cross-entropy of the validation images was"
    assert any(said in note["message"] for note in events(result.folder, "note"))
    assert said in (result.folder.report / "report.html").read_text(encoding="utf-8")


def test_balanced_classes_are_corrected_by_the_validation_images(dataset, tmp_path, no_report):
    # The second class is rare: two images of it train, none validates.
    second, split = dataset.labels == 1, dataset.table["split"].to_numpy()
    kept = ~second | (split == "test")
    kept[np.flatnonzero(second & (split == "train"))[:2]] = True
    config = CONFIG.changed(balance="class-weights", epochs=1, head_epochs=0)
    run = create_run(dataset.subset(kept), config, tmp_path / "rare")
    result = run_training(run.path)
    first, rare = ModelBundle.load(run.bundle).spec.class_offsets
    assert rare < 0 < first
    classifier = load_classifier(run.bundle)
    again = classifier.predict([read_image(path) for path in load_dataset(run).test.paths])
    np.testing.assert_allclose(again.probabilities, result.evaluation.probabilities, atol=1e-4)
    assert "Classes were balanced in training" in (run.bundle / "README.md").read_text("utf-8")


def test_the_stored_test_image_is_nobodys(whole):
    """It is simulated; of the images nothing but the weights and the figures travels."""
    spec = whole.folder.spec()
    stored = np.load(whole.bundle / "test_input.npy")
    files = [read_image(path) for path in load_train(RunFolder(whole.folder.path))]
    assert all(not np.array_equal(stored.squeeze(), Image.to_cyx(one).squeeze()) for one in files)
    text = (whole.bundle / "bundle.json").read_text()
    assert spec.root not in text.replace(spec.source, "")


def test_held_out_images_tell_whether_the_model_bears_16_bits(
    dataset, tmp_path, monkeypatch, no_report
):
    def measured(network, graph, images, unlikeness):
        assert {image.shape for image in images} == {(32, 32, 1)}
        return RoundingSpec(n=len(images), largest=0.5)

    monkeypatch.setattr("napari_cellclf.models.save.measure_rounding", measured)
    run = create_run(dataset, CONFIG.changed(head_epochs=0, epochs=1), tmp_path / "run")
    spec = ModelBundle.load(run_training(run.path).bundle).spec
    held_out = len(dataset.validation) + len(dataset.test)
    assert spec.rounding == RoundingSpec(n=held_out, largest=0.5)


def test_a_resumed_run_keeps_its_precision(tmp_path, dataset, no_report, monkeypatch):
    asked = []

    def settled(*_, **__):
        asked.append(True)
        return "bfloat16"

    monkeypatch.setattr("napari_cellclf.runs.training.settled_precision", settled)
    config = CONFIG.changed(head_epochs=0, epochs=2, reproducible=False, views="one")
    run = create_run(dataset, config, tmp_path / "rounded")
    with pytest.raises(CancelledError):
        run_training(run.path, should_stop=lambda: bool(events(run, "epoch")))
    result = run_training(run.path)
    assert run.spec().precision == "bfloat16"
    assert len(asked) == 1
    # What is saved computes in float32.
    engine = load_classifier(result.bundle, engine="keras", self_test=False).engine
    assert {layer.compute_dtype for layer in engine.network.layers} == {"float32"}
