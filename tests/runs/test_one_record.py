"""What ``run.json`` and the report say was trained is what the trainer received."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest
from imagecodecs import png_encode

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs import training
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run

#: Leaves open what it can: the optional channel must be dropped, the pixels measured.
CONFIG = TrainingConfig(
    parameters={"width": 8, "depth": 2},
    optional_channels=("blue",),
    normalization="fixed",
    epochs=1,
    batch_size=8,
)


@pytest.fixture
def dataset(tmp_path):
    random = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(12):
            pixels = random.normal(40 + 90 * number, 20, (32, 32, 3)).clip(0, 255)
            path = tmp_path / "images" / name / f"{image}.png"
            path.write_bytes(png_encode(pixels.astype(np.uint8)))
    return read_dataset(tmp_path / "images").split("random", seed=0)


@pytest.fixture
def received(monkeypatch):
    """The configurations that the trainer was given."""
    found: list[TrainingConfig] = []
    train = training.train_network

    def note(network, material, config, **more):
        found.append(config)
        return train(network, material, config, **more)

    monkeypatch.setattr(training, "train_network", note)
    return found


def test_run_json_and_report_show_what_was_trained(dataset, tmp_path, received):
    run = create_run(dataset, CONFIG, tmp_path / "run")
    result = run_training(run.path)
    spec = run.spec()
    assert received == [spec.config]
    assert spec.requested == CONFIG
    assert spec.config.augmentation.drop_together == (2,)
    assert spec.config.channels == ("red", "green", "blue")
    assert spec.config.normalization.kind == "fixed"
    assert result.metrics["settings"] == spec.config.model_dump(mode="json")
    page = (run.report / "report.html").read_text(encoding="utf-8")
    for name, value in result.metrics["settings"].items():
        shown = value if isinstance(value, str) else json.dumps(value)
        assert f"<dt>{name}</dt><dd>{html.escape(shown).replace('&quot;', '&#34;')}</dd>" in page
    assert dict(ModelBundle.load(run.bundle).spec.architecture.parameters) == spec.config.parameters


def test_a_resumed_run_trains_what_was_written_down(dataset, tmp_path, received, monkeypatch):
    run = create_run(dataset, CONFIG, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_network", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_training(run.path)
    written = run.spec_file.read_bytes()
    # Resolving it again changes nothing, although the pixels are measured only once.
    monkeypatch.setattr("napari_cellclf.runs.resolve._measured", lambda *_: 1 / 0)
    run_training(run.path)
    assert run.spec_file.read_bytes() == written
    assert received == [run.spec().config]


def test_a_continued_run_names_the_network_it_continues(dataset, tmp_path, received):
    first = run_training(create_run(dataset, CONFIG, tmp_path / "first").path)
    again = TrainingConfig(continue_from=str(first.bundle), architecture="resnet50", epochs=1)
    run = create_run(dataset, again, tmp_path / "again")
    run_training(run.path)
    assert received[-1] == run.spec().config
    before = first.folder.spec().config
    for name in ("architecture", "parameters", "channels", "optional_channels", "normalization"):
        assert getattr(run.spec().config, name) == getattr(before, name)
