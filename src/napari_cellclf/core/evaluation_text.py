"""An evaluation in words: its figures as people read them, and what they must know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_cellclf.core.bootstrap import lowest_rate_without_failure

if TYPE_CHECKING:
    from napari_cellclf.core.evaluation import Evaluation

#: Name of a figure to what people read.
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "within_one_class": "within one class",
    "mean_absolute_error": "mean error",
    "expected_calibration_error": "calibration error (ECE)",
}


def known(value: float | None) -> float | None:
    """Return a number, or None if it is none."""
    return None if value is None or not math.isfinite(value) else float(value)


def notes(evaluation: Evaluation) -> list[str]:
    """Return what a reader of the figures must know."""
    told = [*evaluation.notes, evaluation.units.note]
    if evaluation.failed:
        count = len(evaluation.failed)
        images = "1 image" if count == 1 else f"{count} images"
        told.append(f"{images} could not be classified and are in no figure.")
    support = evaluation.scores.support
    missing = [spec.name for spec, n in zip(evaluation.classes, support, strict=True) if not n]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        told.append(f"Classes without an image count in no mean: {listed}.")
    n = len(evaluation)
    if evaluation.accuracy == 1:
        least = percent(lowest_rate_without_failure(n))
        told.append(
            f"All {n} images are right, so that drawing anew shows no spread: if they were "
            f"independent, a true accuracy of {least} could still do that (95 % Clopper-Pearson)."
        )
    return told


def summary(evaluation: Evaluation) -> str:
    """Tell the chief figures in a few lines of text."""
    one = evaluation
    majority, level = one.majority
    heading = f"{one.name or one.role}: {len(one)} images, {len(one.classes)} classes"
    lines = [f"{heading} ({one.role})" if one.name and one.name != one.role else heading]
    for name, title in headline_titles(one):
        between = worded_range(one, name)
        value = worded(one, name, known(one.figures[name]))
        lines.append(f"  {title:24} {value}{f'  ({between})' if between else ''}")
    lines.append(f"  {'by chance':24} {percent(one.chance)}")
    lines.append(f"  {f'always {majority.name}':24} {percent(level)}")
    return "\n".join([*lines, *(f"  {note}" for note in notes(one))])


def headline_titles(evaluation: Evaluation) -> list[tuple[str, str]]:
    """List the chief figures."""
    ranks = [(f"top_{k}", f"top-{k} accuracy") for k in evaluation.ranks if k > 1]
    listed = list(TITLES.items())
    chief = [*listed[:3], *ranks, *listed[3:]]
    return [(name, title) for name, title in chief if name in evaluation.figures]


def worded(evaluation: Evaluation, name: str, value: float | None) -> str:
    """Write a figure as people read it."""
    if value is None:
        return "-"
    if name == "mean_absolute_error":
        scale = evaluation.scale
        return f"{value:.3g} {scale.unit if scale else ''}".rstrip()
    if name == "expected_calibration_error":
        return f"{value:.3f}"
    return percent(value)


def percent(part: float) -> str:
    """Write a part of a whole as people read it.

    `part`: 0 to 1.
    """
    return f"{100 * part:.1f} %"


def worded_range(evaluation: Evaluation, name: str) -> str:
    """Write the interval of a figure as people read it."""
    interval = evaluation.intervals.get(name)
    if interval is None:
        return ""
    low, high = (worded(evaluation, name, end) for end in (interval.low, interval.high))
    return f"{low.split(' ')[0]} to {high}"
