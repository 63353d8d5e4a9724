"""Plots as picture files, drawn without a window and without any global state of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.errors import InputError
from napari_cellclf.io.replacing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.predictions import Predictions

_RIGHT, _WRONG, _UNKNOWN = "#1b7f4b", "#b3261e", "#3b5b92"
#: Each channel is shown between these percentiles of its pixels.
_SHOWN = (0.5, 99.7)
_MOST_BARS = 5


def plot_confusion(
    counts: NDArray[np.integer],
    classes: Sequence[str],
    path: str | Path,
    *,
    title: str = "",
) -> Path:
    """Draw a confusion matrix: counts as numbers, parts of each true class as shades.

    `counts`: ndarray of int, shape (K, K); rows are true classes, as
    `core.metrics.confusion_matrix` makes them.
    """
    if counts.shape != (len(classes), len(classes)):
        raise InputError(
            f"a confusion matrix of shape {counts.shape} does not fit {len(classes)} classes"
        )
    side = 2.4 + 0.75 * len(classes)
    figure = _new_figure(side + 0.9, side)
    axes = figure.add_subplot()
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = counts / totals
    drawn = axes.imshow(shades, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shades[row, column] > 0.55 else "black"
        number = str(int(counts[row, column]))
        axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=12)
    slanted = max(len(name) for name in classes) > 8
    axes.set_xticks(range(len(classes)), classes, rotation=40 if slanted else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(drawn, ax=axes, label="fraction of the true class", shrink=0.8)
    return save_figure(figure, path)


def plot_montage(
    images: Sequence[Image],
    predictions: Predictions,
    path: str | Path,
    *,
    truth: Sequence[str] | None = None,
    columns: int = 4,
    title: str = "",
) -> Path:
    """Draw images with the class that each was given and the probabilities below."""
    lengths = {len(images), len(predictions), len(images if truth is None else truth)}
    if len(lengths) > 1 or not images:
        raise InputError(
            f"{len(images)} images and {len(predictions)} predictions were received for a "
            "montage; give one prediction, and one truth if any, for each of at least one image"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    bars = min(len(predictions.classes), _MOST_BARS)
    figure = _new_figure(2.5 * columns, rows * (2.8 + 0.2 * bars) + 0.4)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[2.5, 0.2 * bars + 0.05] * rows)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        right = None if truth is None else truth[number]
        _draw_image(figure.add_subplot(grid[2 * row, column]), image, predictions, number, right)
        _draw_bars(figure.add_subplot(grid[2 * row + 1, column]), predictions.top_k(bars, number))
    if title:
        figure.suptitle(title)
    return save_figure(figure, path)


def to_rgb(image: Image) -> NDArray[np.float32]:
    """Make a picture for the eye of an image's first three channels.

    Returns 0..1, each channel stretched between two percentiles. One channel is grey; of several
    the first (nuclei, as a rule) is blue, the second green, the third red. RGB stays as it is.
    """
    pixels = image.to_cyx()[:3].astype(np.float32)
    low, high = np.percentile(pixels, _SHOWN, axis=(1, 2))[..., None, None].astype(np.float32)
    if "S" in image.axes:
        low, high = low.min(), high.max()
    shown = np.clip((pixels - low) / np.maximum(high - low, 1e-6), 0, 1)
    if len(shown) == 1:
        shown = np.repeat(shown, 3, axis=0)
    elif "S" not in image.axes:
        shown = np.concatenate([np.zeros_like(shown[:1])] * (3 - len(shown)) + [shown[::-1]])
    return np.asarray(np.moveaxis(shown, 0, -1), np.float32)


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_image(
    axes: Axes, image: Image, predictions: Predictions, number: int, truth: str | None
) -> None:
    label = predictions.labels[number]
    colour = _UNKNOWN if truth is None else _RIGHT if truth == label else _WRONG
    words = f"{label}  {predictions.confidences[number]:.0%}"
    if truth is not None and truth != label:
        words += f"\ntrue: {truth}"
    axes.imshow(to_rgb(image))
    axes.set_title(words, color=colour, fontsize=11, fontweight="bold")
    axes.set_xlabel(_short(predictions.ids[number]), fontsize=7)
    axes.set(xticks=[], yticks=[])


def _draw_bars(axes: Axes, best: Sequence[tuple[str, float]]) -> None:
    names = [name for name, _ in best]
    values = [probability for _, probability in best]
    axes.barh(range(len(best)), values, color=_UNKNOWN, height=0.7)
    axes.set_yticks(range(len(best)), names, fontsize=7)
    axes.set(xlim=(0, 1.25), xticks=[])
    axes.invert_yaxis()
    for row, value in enumerate(values):
        axes.text(value + 0.02, row, f"{value:.1%}", va="center", fontsize=7)
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False)


def _short(name: str) -> str:
    return name if len(name) <= 34 else "..." + name[-31:]


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a picture, whole or not at all."""
    path = Path(path)
    with replacing(path) as beside:
        figure.savefig(beside, format=path.suffix[1:] or "png", dpi=110)
    return path
