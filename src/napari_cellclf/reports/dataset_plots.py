"""Bar plots of the images of each class, before and after augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.dataset import SPLITS
from napari_cellclf.core.dataset_report import DatasetReport
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_cellclf.core.dataset import Dataset

_COLOURS = {
    "train": "#3b5b92",
    "validation": "#d98e04",
    "test": "#1b7f4b",
    "unsplit": "#3b5b92",
}
_MOST_WRITTEN = 40
_WIDEST = 30.0


def plot_class_counts(
    data: Dataset | DatasetReport, path: str | Path, *, copies: int = 1, title: str = ""
) -> Path:
    """Draw how many images each class has, a bar a class, its splits on top of each other."""
    if copies < 1:
        raise InputError(f"{copies} copies of each image cannot be drawn; give at least 1")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = augmented_counts(data, copies)
    figure = Figure(figsize=(min(_WIDEST, 3 + 0.45 * len(counts)), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw(axes, counts)
    axes.set(ylabel="images", title=title)
    figure.savefig(Path(path), dpi=110)
    return Path(path)


def augmented_counts(data: Dataset | DatasetReport, copies: int) -> dict[str, dict[str, int]]:
    """Count the images that there are after augmentation."""
    return {
        name: {
            split: number * (copies if split in ("train", "unsplit") else 1)
            for split, number in splits.items()
        }
        for name, splits in _counts(data).items()
    }


def _counts(data: Dataset | DatasetReport) -> Mapping[str, Mapping[str, int]]:
    if isinstance(data, DatasetReport):
        return data.counts
    return {
        str(name): {str(split): int(number) for split, number in row.items()}
        for name, row in data.counts().iterrows()
    }


def _draw(axes: Axes, counts: Mapping[str, Mapping[str, int]]) -> None:
    names = list(counts)
    bottom = [0] * len(names)
    for split in (*SPLITS, "unsplit"):
        numbers = [counts[name].get(split, 0) for name in names]
        if any(numbers):
            axes.bar(range(len(names)), numbers, bottom=bottom, color=_COLOURS[split], label=split)
        bottom = [below + number for below, number in zip(bottom, numbers, strict=True)]
    many = len(names) > _MOST_WRITTEN
    for place, total in enumerate([] if many else bottom):
        axes.text(place, total, str(total), ha="center", va="bottom", fontsize=8)
    step = -(-len(names) // _MOST_WRITTEN) if many else 1
    shown = range(0, len(names), step)
    slanted = sum(len(names[place]) for place in shown) > 8 * len(names) or len(names) > 10
    axes.set_xticks(list(shown), [names[place] for place in shown], fontsize=8)
    if slanted:
        axes.tick_params(axis="x", labelrotation=90)
    axes.margins(y=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.containers) > 1:
        # Beside the bars, none of which it hides there.
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
