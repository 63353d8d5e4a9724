"""Plots of an evaluation as SVG text for a page, in the page's colour of text and font."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.core.calibration import coverage_curve, reliability
from napari_cellclf.core.curves import Curve, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_cellclf.core.evaluation import Evaluation

#: Drawn in this colour, it is replaced by the page's.
_INK = "#010203"
#: Okabe and Ito, Color Universal Design, 2008: told apart with any colour vision; without black.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f",
)  # fmt: skip
_MAIN, _SECOND = _COLOURS[0], _COLOURS[1]
#: With more classes, single curves cannot be told apart.
_MOST_NAMED = len(_COLOURS)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # A class may be called "$x".
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
}
_SQUARE, _WIDE = (4.4, 3.7), (8.6, 3.1)


def curves_svg(evaluation: Evaluation, kind: Literal["roc", "precision-recall"], key: str) -> str:
    """Draw each class against the rest."""
    make = roc_curve if kind == "roc" else precision_recall_curve
    found = [
        (spec.name, curve)
        for number, spec in enumerate(evaluation.classes)
        if (curve := make(evaluation.truth == number, evaluation.probabilities[:, number]))
    ]
    if not found:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if kind == "roc":
            axes.plot([0, 1], [0, 1], color=_INK, alpha=0.35, linewidth=1, linestyle="--")
            axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)")
        else:
            axes.set(xlabel="recall", ylabel="precision")
        _draw_curves(axes, found, step=kind != "roc")

    return _svg(draw, _SQUARE, key)


def reliability_svg(evaluation: Evaluation, key: str) -> str:
    """Draw accuracy against confidence, and how many images are how sure."""
    bins = reliability(evaluation.probabilities, evaluation.truth)
    middle, width = (bins.edges[:-1] + bins.edges[1:]) / 2, np.diff(bins.edges)

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=_INK, alpha=0.45, linewidth=1, linestyle="--")
        upper.bar(middle, bins.accuracy, width * 0.92, color=_MAIN, alpha=0.35)
        upper.plot(bins.confidence, bins.accuracy, "o-", color=_MAIN, markersize=4)
        upper.set(ylabel="part that is right", xlim=(0, 1), ylim=(0, 1.03))
        upper.text(0.03, 0.93, "modest", fontsize=8, alpha=0.6, transform=upper.transAxes)
        upper.text(0.97, 0.05, "overconfident", fontsize=8, alpha=0.6, ha="right")
        lower.bar(middle, bins.count, width * 0.92, color=_INK, alpha=0.4)
        lower.set(xlabel="confidence", ylabel="images")

    return _svg(draw, _SQUARE, key)


def coverage_svg(evaluation: Evaluation, key: str) -> str:
    """Draw how right the sure answers are against how many images are answered surely."""
    curve = coverage_curve(evaluation.probabilities, evaluation.truth)
    threshold = evaluation.unsure_threshold

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(curve.coverage, curve.accuracy, color=_MAIN, drawstyle="steps-pre")
        # The first few answers alone say little and would stretch the scale.
        shown = curve.accuracy[curve.coverage >= min(0.05, float(curve.coverage[-1]))]
        low = float(min(shown.min(), evaluation.accuracy))
        axes.set(xlim=(0, 1.02), ylim=(max(0.0, min(low - 0.05, 0.9)), 1.01))
        axes.set(xlabel="fraction of images predicted with confidence", ylabel="accuracy on those")
        if threshold is not None:
            _mark(axes, *curve.at(threshold), threshold)

    return _svg(draw, _SQUARE, key)


def history_svg(history: Sequence[Mapping[str, Any]], key: str) -> str:
    """Draw loss and accuracy over the epochs of training."""
    if not history:
        return ""
    epochs = np.arange(1, len(history) + 1)
    stages = [str(record.get("stage", "")) for record in history]

    def draw(figure: Figure) -> None:
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for label, column, colour in (
                ("training", name, _MAIN),
                ("validation", f"validation_{name}", _SECOND),
            ):
                values = np.asarray([_number(record.get(column)) for record in history])
                if np.isfinite(values).any():
                    axes.plot(epochs, values, "o-", color=colour, markersize=3, label=label)
            _mark_stages(axes, stages)
            axes.set(xlabel="epoch", ylabel=name, xlim=(0.5, len(history) + 0.5))
            axes.xaxis.get_major_locator().set_params(integer=True)
            if axes.get_legend_handles_labels()[1]:
                axes.legend()

    return _svg(draw, _WIDE, key)


def confusion_svg(evaluation: Evaluation, key: str) -> str:
    """Draw the confusion matrix of classes that are too many for a table of numbers."""
    from matplotlib.colors import LinearSegmentedColormap

    counts = evaluation.confusion
    shades = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_plain(name) for name in evaluation.class_names]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        # From clear to full, so that it looks well on dark paper too.
        shading = LinearSegmentedColormap.from_list("parts", [(_MAIN, 0.03), (_MAIN, 1.0)])
        drawn = axes.imshow(shades, cmap=shading, vmin=0, vmax=1, interpolation="nearest")
        every = range(0, len(names), -(-len(names) // 40))
        axes.set_xticks(every, [names[i] for i in every], rotation=90, fontsize=7)
        axes.set_yticks(every, [names[i] for i in every], fontsize=7)
        axes.set(xlabel="predicted", ylabel="true")
        figure.colorbar(drawn, ax=axes, label="fraction of the true class", shrink=0.8)

    return _svg(draw, (8.6, 7.6), key)


def _draw_curves(axes: Axes, found: Sequence[tuple[str, Curve]], *, step: bool) -> None:
    # A precision holds for the recall that was reached with it, back to the one before.
    style = "steps-pre" if step else "default"
    if len(found) <= _MOST_NAMED:
        for (name, curve), colour in zip(found, _COLOURS, strict=False):
            label = f"{_plain(name)}  {curve.area:.3f}"
            axes.plot(curve.x, curve.y, color=colour, label=label, drawstyle=style)
    else:
        for _, curve in found:
            axes.plot(curve.x, curve.y, color=_MAIN, alpha=0.25, linewidth=1, drawstyle=style)
        grid = np.linspace(0, 1, 201)
        mean = np.mean([np.interp(grid, curve.x, curve.y) for _, curve in found], axis=0)
        area = float(np.mean([curve.area for _, curve in found]))
        axes.plot(grid, mean, color=_SECOND, linewidth=2.2, label=f"mean  {area:.3f}")
    axes.legend(loc="lower left" if step else "lower right")


def _mark(axes: Axes, coverage: float, accuracy: float | None, threshold: float) -> None:
    axes.axvline(coverage, color=_SECOND, linewidth=1, linestyle="--")
    if accuracy is not None:
        axes.plot([coverage], [accuracy], "o", color=_SECOND, markersize=6)
    right = "nothing" if accuracy is None else f"{100 * accuracy:.1f} % of them right"
    axes.annotate(
        f"threshold {threshold:.3g}\n{100 * coverage:.1f} % predicted\n{right}",
        (coverage, axes.get_ylim()[0]),
        xytext=(-6 if coverage > 0.5 else 6, 8),
        textcoords="offset points",
        ha="right" if coverage > 0.5 else "left",
        fontsize=8.5,
    )


def _mark_stages(axes: Axes, stages: Sequence[str]) -> None:
    for place in range(1, len(stages)):
        if stages[place] != stages[place - 1]:
            axes.axvline(place + 0.5, color=_INK, alpha=0.35, linewidth=1, linestyle=":")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _plain(name: str, most: int = 24) -> str:
    """Shorten a name, without what XML cannot hold."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    # Matplotlib leaves out of a legend what begins with an underscore.
    clean = f" {clean}" if clean.startswith("_") else clean
    return clean if len(clean) <= most else clean[: most - 1] + "\u2026"


def _svg(draw: Any, size: tuple[float, float], key: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        # The page's font draws the text; that matplotlib's lacks a letter does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _for_page(written.getvalue(), key)


def _for_page(text: str, key: str) -> str:
    """Take an SVG file apart into what may stand inside a page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # It would hold for the whole page.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", text)
    text = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", text)
    # Names are used once on a page.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", text)
    return text.replace(_INK, "currentColor").strip()
