"""Plots of a search for settings: what came of each trial, and of each value of a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_cellclf.reports.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito, Color Universal Design, 2008.
_COMPLETE, _OTHER, _BEST = "#0072b2", "#7f7f7f", "#d55e00"
_MOST_COLUMNS = 3


@dataclass(frozen=True)
class SettingAxis:
    """The axis of a setting."""

    low: float
    high: float
    #: Whether factors are drawn evenly.
    logarithmic: bool = False
    #: Values to mark; by default some round ones.
    marks: tuple[float, ...] = ()


class TrialLike(Protocol):
    """What is drawn of a trial."""

    @property
    def number(self) -> int:
        """In the order in which they were begun."""

    @property
    def state(self) -> str:
        """``"complete"``, or anything else."""

    @property
    def value(self) -> float | None:
        """What it came to; None if nothing is known."""

    @property
    def choice(self) -> Mapping[str, float | int]:
        """Its settings."""


def plot_history(
    trials: Sequence[TrialLike],
    path: str | Path,
    *,
    label: str,
    larger_is_better: bool,
) -> Path:
    """Draw what each trial came to, in their order, and the best up to each."""
    from matplotlib.ticker import MaxNLocator

    figure = _new_figure(7.5, 4)
    axes = figure.add_subplot()
    _draw_trials(axes, [one.number for one in trials], trials, larger_is_better)
    complete = [one for one in trials if _is_complete(one)]
    if complete:
        better = max if larger_is_better else min
        best = list(accumulate((_value(one) for one in complete), better))
        axes.step(
            [one.number for one in complete], best, where="post", color=_BEST, label="best so far"
        )
    axes.set(xlabel="trial", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return save_figure(figure, path)


def plot_settings(
    trials: Sequence[TrialLike],
    settings: Mapping[str, SettingAxis],
    path: str | Path,
    *,
    label: str,
    larger_is_better: bool,
) -> Path:
    """Draw what trials came to against each of their settings."""
    columns = min(_MOST_COLUMNS, len(settings))
    rows = -(-len(settings) // columns)
    figure = _new_figure(3.4 * columns, 3.2 * rows)
    for place, (name, axis) in enumerate(settings.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        known = [one for one in trials if name in one.choice]
        _draw_trials(axes, [one.choice[name] for one in known], known, larger_is_better)
        _scale(axes, axis)
        axes.set_xlabel(name.replace("_", " "))
        if place % columns == 1 or columns == 1:
            axes.set_ylabel(label)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return save_figure(figure, path)


def _draw_trials(
    axes: Axes,
    positions: Sequence[float],
    trials: Sequence[TrialLike],
    larger_is_better: bool,
) -> None:
    pairs = [(x, one) for x, one in zip(positions, trials, strict=True) if one.value is not None]
    complete = [(x, _value(one)) for x, one in pairs if _is_complete(one)]
    others = [(x, _value(one)) for x, one in pairs if not _is_complete(one)]
    if complete:
        points = np.array(complete)
        axes.plot(*points.T, "o", color=_COMPLETE, alpha=0.8, label="complete")
        best = points[:, 1].argmax() if larger_is_better else points[:, 1].argmin()
        axes.plot(*points[best], "*", color=_BEST, markersize=14, label="best")
    if others:
        axes.plot(*np.array(others).T, "x", color=_OTHER, label="ended early")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.15)


def _scale(axes: Axes, axis: SettingAxis) -> None:
    if axis.logarithmic:
        axes.set_xscale("log")
        margin = max(axis.high / axis.low, 1.5) ** 0.05
        axes.set_xlim(axis.low / margin, axis.high * margin)
    else:
        margin = 0.05 * (axis.high - axis.low or 1)
        axes.set_xlim(axis.low - margin, axis.high + margin)
    if axis.marks:
        axes.set_xticks(axis.marks, [f"{mark:g}" for mark in axis.marks])
        axes.set_xticks([], minor=True)


def _is_complete(trial: TrialLike) -> bool:
    return trial.state == "complete" and trial.value is not None


def _value(trial: TrialLike) -> float:
    return float("nan") if trial.value is None else trial.value


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
