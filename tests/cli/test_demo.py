"""The demo at a small size; its figures at full size stand in the guide."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from functools import partial

import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.cli import main
from napari_cellclf.cli.demo import demo_folder as files
from napari_cellclf.cli.demo import tour
from napari_cellclf.core.progress import ignore_progress, never_stop
from napari_cellclf.core.simulation import simulate_plate
from napari_cellclf.core.stains import CELL_TYPES, STAINS
from napari_cellclf.errors import CancelledError, InputError
from napari_cellclf.io.read import read_image


@pytest.fixture(scope="module")
def small():
    """Make the demo small enough for a test: 4 wells of each type, few and small batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tour, "WELLS", 4)
        patch.setattr(tour, "NEW_WELLS", 1)
        patch.setattr(tour, "simulate_plate", partial(simulate_plate, size=128))
        patch.setattr(tour, "STEPS", 50)
        patch.setattr(tour, "CROP", 64)
        yield


@pytest.fixture(scope="module")
def demo(small, tmp_path_factory):
    """A demo that has run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "a folder"
    capture = pytest.MonkeyPatch()
    printed: list[str] = []
    with capture.context() as patch:
        patch.setattr(tour, "_say", printed.append)
        assert main(["demo", "--out", str(folder)]) == 0
    return folder, "\n".join(printed)


def test_it_leaves_images_table_plots_and_model(demo):
    folder, _ = demo
    sites = 4 * 4 * 2
    assert len(list((folder / "plate/images").rglob("*.png"))) == sites * len(STAINS)
    for name in (tour.CONFUSION, tour.MONTAGE):
        assert (folder / name).stat().st_size > 10_000
    with (folder / tour.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["cell_type"] for row in rows] == list(CELL_TYPES)
    assert {row["experiment"] for row in rows} == {f"{name}-02" for name in CELL_TYPES}


def test_it_learns(demo):
    folder, text = demo
    [evaluation] = ModelBundle.load(folder / tour.MODEL).spec.evaluations
    assert evaluation.n == 8
    assert evaluation.role == "test"
    assert evaluation.metrics["accuracy"] >= 0.6
    assert f"{evaluation.metrics['accuracy']:.0%} (guessing gives 25%)" in " ".join(text.split())


def test_it_says_that_nothing_is_real(demo):
    folder, text = demo
    assert "made-up pictures, not real cells" in " ".join(text.split())
    limits = ModelBundle.load(folder / tour.MODEL).spec.limits
    assert any("knows nothing of real cells" in limit for limit in limits)


def test_its_wells_and_sites_are_counted(demo):
    _, text = demo
    assert "set 4 wells (8 sites) aside; the other 12 wells (24 sites)" in " ".join(text.split())


def test_the_commands_that_it_names_work(demo):
    _, text = demo
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    shown = [line for line in commands if " models show " in line]
    predicted = [line for line in commands if " predict " in line and "FOLDER" not in line]
    assert len(shown) == len(predicted) == 1
    # As typed, through the shell; the other one in this process, to import TensorFlow once.
    done = subprocess.run(shown[0], shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "HEPG2" in done.stdout
    words = shlex.split(predicted[0])
    assert main(words[words.index("predict") :]) == 0


def test_it_replaces_an_earlier_demo_and_leaves_other_files(demo, small, tmp_path, monkeypatch):
    # A copy: the other tests look at the demo itself, whichever comes first.
    folder = tmp_path / "demo"
    shutil.copytree(demo[0], folder)
    monkeypatch.setattr(tour, "STEPS", 1)
    before = (folder / tour.TABLE).read_bytes()
    (folder / "notes.txt").write_text("mine")
    assert main(["demo", "--out", str(folder)]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / tour.TABLE).read_bytes() != before


def test_it_trains_as_every_run_does(demo):
    folder, _ = demo
    bundle = ModelBundle.load(folder / tour.MODEL)
    metrics = json.loads((folder / tour.REPORT / "metrics.json").read_text())
    assert metrics["settings"]["architecture"] == bundle.spec.architecture.name
    assert metrics["settings"]["crop"] == 64
    assert metrics["settings"]["seed"] == bundle.spec.training.seed == 0
    # The run itself is not left behind.
    assert not list(folder.glob(".*"))


def test_a_folder_of_other_files_is_refused_in_one_line(cellclf, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    result = cellclf("demo", "--out", tmp_path)
    assert result.code == 1
    assert re.fullmatch(r"cellclf: error: .* choose a new folder with --out\n", result.err)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_ctrl_c_leaves_one_line(cellclf, small, tmp_path, monkeypatch):
    drawn = []

    def interrupt(*args, **kwargs):
        drawn.append(args)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(files, "_write_site", interrupt)
    result = cellclf("demo", "--out", tmp_path / "demo")
    assert (result.code, result.err) == (130, "cellclf: interrupted\n")
    assert len(drawn) == 1


def test_view_without_napari_says_so_before_any_work(cellclf, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = cellclf("demo", "--view", "--out", tmp_path / "demo")
    assert result.code == 1
    assert tour.install_line() in result.err
    assert not (tmp_path / "demo").exists()


def test_view_opens_the_new_plate(cellclf, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(tour, "run_tour", lambda out: None)
    monkeypatch.setattr(tour, "has_napari", lambda: True)
    monkeypatch.setattr(tour, "_run", lambda words: asked.append(words) or 0)
    assert cellclf("demo", "--view", "--out", tmp_path).code == 0
    assert asked == [tour.napari_command(tmp_path / "new-plate" / "images")]


def test_a_napari_that_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(tour, "_run", lambda words: 3)
    with pytest.raises(InputError, match="napari ended with code 3; to see why, type: napari "):
        tour.open_napari(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="quotes of a POSIX shell")
def test_lines_to_type_are_quoted():
    assert tour.shell_line(["cellclf", "a folder/$x"]) == "cellclf 'a folder/$x'"


def test_without_napari_the_last_hint_is_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tour, "has_napari", lambda: False)
    assert tour.what_next(tmp_path).endswith(tour.install_line())


def test_a_written_plate_is_read_back_pixel_by_pixel(tmp_path):
    plate = simulate_plate(wells_per_type=1, sites_per_well=1, cell_types=("RPE",), size=32)
    files.write_plate(plate, tmp_path, on_progress=ignore_progress, should_stop=never_stop)
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert written == sorted(files.file_names(plate))
    image = read_image(tmp_path / "images/RPE-01/Plate1/B02_s1_w3.png")
    np.testing.assert_array_equal(image.data, plate[0].draw().data)
    assert image.channels == STAINS
    assert image.metadata["cell_type"] == "RPE"
    assert image.metadata["dataset"] == "simulated"


def test_writing_a_plate_stops_when_asked(tmp_path):
    plate = simulate_plate(wells_per_type=1, sites_per_well=1, size=32)
    with pytest.raises(CancelledError, match="stopped after 1 of 4 sites"):
        files.write_plate(plate, tmp_path, on_progress=ignore_progress, should_stop=lambda: True)


def test_held_out_wells_are_no_training_wells(tmp_path):
    plate = simulate_plate(wells_per_type=4, sites_per_well=2, size=32)
    files.write_plate(plate, tmp_path, on_progress=ignore_progress, should_stop=never_stop)
    dataset = tour.read_plate(tmp_path)
    assert not set(dataset.train.groups) & set(dataset.test.groups)
    assert len(dataset.train) + len(dataset.test) == len(dataset) == 32
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2, 2]
