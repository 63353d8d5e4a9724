"""Two processes train real trials of one search."""

from __future__ import annotations

import json

from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.tuning.search import run_search
from napari_cellclf.runs.tuning.search_folder import create_search

CONFIG = TrainingConfig(epochs=1, batch_size=8, parameters={"width": 8, "depth": 2}, size=(32, 32))


def test_two_processes_share_the_trials(make_images, tmp_path):
    dataset = read_dataset(make_images()).split("random", seed=0)
    folder = create_search(dataset, CONFIG, tmp_path / "tuning", metric="balanced_accuracy")
    result = run_search(folder.path, trials=2, jobs=2)
    assert [trial.state for trial in result.trials] == ["complete", "complete"]
    assert [path.name for path in sorted(folder.workers.iterdir())] == ["1.log", "2.log"]
    for trial in result.trials:
        run = folder.trial(trial.number)
        (evaluated,) = json.loads((run.report / "metrics.json").read_text())["evaluations"]
        assert evaluated["role"] == "validation"
        assert 0 <= trial.value <= 1
        assert run.is_finished
        assert not run.checkpoints.exists()
