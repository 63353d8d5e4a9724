"""Plots of a search show every trial that came to something."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from napari_cellclf.reports import tuning_plots
from napari_cellclf.reports.tuning_plots import SettingAxis, plot_history, plot_settings


@dataclass(frozen=True)
class Trial:
    number: int
    state: str
    value: float | None
    choice: dict[str, float] = field(default_factory=dict)


TRIALS = [
    Trial(0, "complete", 0.5, {"rate": 0.01, "batch_size": 8}),
    Trial(1, "pruned", 0.9, {"rate": 0.1, "batch_size": 16}),
    Trial(2, "failed", None, {"rate": 0.05, "batch_size": 8}),
    Trial(3, "complete", 0.7, {"rate": 0.02, "batch_size": 32}),
    Trial(4, "complete", 0.3, {"rate": 0.03, "batch_size": 8}),
]
AXES = {
    "rate": SettingAxis(0.001, 0.1, logarithmic=True),
    "batch_size": SettingAxis(8, 32, logarithmic=True, marks=(8, 16, 32)),
    "dropout": SettingAxis(0, 0),
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    saved: list[Figure] = []
    save = tuning_plots.save_figure

    def remember(figure: Figure, path: Path) -> Path:
        saved.append(figure)
        return save(figure, path)

    monkeypatch.setattr(tuning_plots, "save_figure", remember)
    return saved


def _lines(figure: Figure, panel: int = 0) -> dict[str, list[list[float]]]:
    lines = figure.axes[panel].get_lines()
    return {str(line.get_label()): line.get_xydata().tolist() for line in lines}


@pytest.mark.parametrize(
    ("larger", "best", "course"),
    [(False, [4, 0.3], [0.5, 0.5, 0.3]), (True, [3, 0.7], [0.5, 0.7, 0.7])],
)
def test_history(figures, tmp_path, larger: bool, best: list[float], course: list[float]):
    path = plot_history(TRIALS, tmp_path / "a.png", label="loss", larger_is_better=larger)
    assert path.read_bytes().startswith(b"\x89PNG")
    lines = _lines(figures[0])
    assert lines["complete"] == [[0, 0.5], [3, 0.7], [4, 0.3]]
    assert lines["ended early"] == [[1, 0.9]]
    assert lines["best"] == [best]
    assert [value for _, value in lines["best so far"]] == course


def test_settings(figures, tmp_path):
    path = plot_settings(TRIALS, AXES, tmp_path / "b.png", label="loss", larger_is_better=False)
    assert path.read_bytes().startswith(b"\x89PNG")
    rate, batch, dropout = figures[0].axes
    assert _lines(figures[0])["complete"] == [[0.01, 0.5], [0.02, 0.7], [0.03, 0.3]]
    assert rate.get_xscale() == batch.get_xscale() == "log"
    assert rate.get_xlim()[0] < 0.001 < 0.1 < rate.get_xlim()[1]
    assert [text.get_text() for text in batch.get_xticklabels()] == ["8", "16", "32"]
    # No trial has one.
    assert not dropout.get_lines()


def test_history_of_trials_that_all_ended_early(figures, tmp_path):
    plot_history(TRIALS[1:3], tmp_path / "c.png", label="loss", larger_is_better=False)
    assert set(_lines(figures[0])) == {"ended early"}
