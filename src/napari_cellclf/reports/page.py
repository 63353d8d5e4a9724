"""What the page of a report shows: its sections, tables, plots and the pictures of mistakes."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.evaluation import percent
from napari_cellclf.errors import InputError
from napari_cellclf.reports.evaluation_plots import (
    confusion_svg,
    coverage_svg,
    curves_svg,
    history_svg,
    reliability_svg,
)
from napari_cellclf.reports.plots import to_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.core.image import Image

#: Up to so many classes, the confusion matrix is a table of numbers.
_MOST_CELLS = 25
#: So many evaluations are shown in full; all are in the table that compares them.
_MOST_SECTIONS = 4
ROLES = {
    "train": "images it was trained on",
    "validation": "images its settings were chosen on",
    "test": "images to test it on",
    "leave-one-group-out": "each group by a model that had not seen it",
    "k-fold": "each fold by a model that had not seen it",
}
#: Those whose predictions are by the model that the report is of.
_OWN_ROLES = ("train", "validation", "test")
MOST_MISTAKES = 24
_MOST_DOUBTFUL = 50
#: Longer side of a thumbnail, in pixels; shown at half that on ordinary screens.
_SIDE = 240
_SHOWN_CLASSES = 3
#: Of evidence for a class and against it, as in napari; and how bright the image below is.
_FOR, _AGAINST = (1.0, 0.5, 0.0), (0.1, 0.45, 1.0)
_OPACITY, _DIMMED = 0.8, 0.6

#: From a row's name and that of a class to the evidence for it, shape (Y, X), or None.
Explain = Callable[[str, str], "NDArray[np.float32] | None"]


def page_view(
    numbers: Mapping[str, Any],
    evaluations: Sequence[Evaluation],
    read: Callable[[str], Image] | None,
    explain: Explain | None = None,
) -> dict[str, Any]:
    """Collect what the page shows."""
    parent = _common_folder([name for one in evaluations for name in one.ids])
    return {
        "title": numbers["title"],
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "banners": [
            {"kind": one["level"] if one["level"] in ("error", "warning") else "note", **one}
            for one in numbers["warnings"]
        ],
        "facts": numbers["facts"],
        "settings": {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in numbers["settings"].items()
        },
        "comparison": _comparison(evaluations) if len(evaluations) > 1 else None,
        "sections": [
            _section(one, numbers["evaluations"][place], f"e{place}", read, parent, explain)
            for place, one in enumerate(evaluations[:_MOST_SECTIONS])
        ],
        "left_out": max(0, len(evaluations) - _MOST_SECTIONS),
        "history": history_svg(numbers["history"], "history"),
        "dataset": _dataset(numbers["dataset"]),
        "folder": parent,
        "most_mistakes": MOST_MISTAKES,
    }


def _section(
    one: Evaluation,
    document: Mapping[str, Any],
    key: str,
    read: Callable[[str], Image] | None,
    parent: str,
    explain: Explain | None,
) -> dict[str, Any]:
    majority, level = one.majority
    wrong = int((one.predicted != one.truth).sum())
    return {
        "key": key,
        "name": one.name or one.role,
        "role": one.role,
        "role_words": ROLES.get(one.role, one.role),
        "size": f"{counted(len(one), one.noun)} of {counted(len(one.classes), 'class')}",
        "noun": one.noun,
        "n_classes": len(one.classes),
        "tiles": [_tile(one, name) for name in one.chief()],
        "majority": {"name": majority.title, "text": percent(level), "part": f"{100 * level:.2f}"},
        "chance": {"text": percent(one.chance), "part": f"{100 * one.chance:.2f}"},
        "notes": document["notes"],
        "failed": [
            {"image": _below(name, parent), "reason": reason} for name, reason in one.failed[:50]
        ],
        "confusion": _confusion(one) if len(one.classes) <= _MOST_CELLS else None,
        "confusion_plot": confusion_svg(one, f"{key}m") if len(one.classes) > _MOST_CELLS else "",
        "classes": [
            _class_row(one, row, number) for number, row in enumerate(document["per_class"])
        ],
        "macro": _macro_row(one, document),
        "roc": curves_svg(one, "roc", f"{key}r"),
        "precision": curves_svg(one, "precision-recall", f"{key}p"),
        "reliability": reliability_svg(one, f"{key}c"),
        "coverage": coverage_svg(one, f"{key}u"),
        "temperature": f"{one.temperature:.3g}",
        "threshold": None if one.unsure_threshold is None else f"{one.unsure_threshold:.3g}",
        "unsure": _unsure(document["unsure"]),
        "wrong": wrong,
        "doubtful": _doubtful_labels(one, parent),
        "most_doubtful": _MOST_DOUBTFUL,
        "mistakes": mistakes_view(one, read, lambda name: _below(name, parent), explain),
    }


def _tile(one: Evaluation, name: str) -> dict[str, Any]:
    metric, value, interval = one.measured[name], one.values[name], one.intervals.get(name)
    is_bar = metric.is_fraction and math.isfinite(value)
    return {
        "title": metric.title,
        "value": one.text(name),
        "range": one.interval_text(name),
        "part": f"{100 * value:.2f}" if is_bar else None,
        "low": f"{100 * interval.low:.2f}" if is_bar and interval else None,
        "width": f"{100 * (interval.high - interval.low):.2f}" if is_bar and interval else None,
        "levels": _levels(one, name),
    }


def _levels(one: Evaluation, name: str) -> list[dict[str, str]]:
    """List the levels that a metric must be compared with."""
    metric = one.measured[name]
    chance = metric.chance_level(one.counts)
    levels = [] if chance is None else [("chance", chance)]
    if name == "accuracy":
        majority, level = one.majority
        levels.append((f"always {majority.title}", level))
    return [
        {"name": word, "text": metric.text(level), "part": f"{100 * level:.2f}"}
        for word, level in levels
    ]


def _comparison(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    titles = {name: one.measured[name].title for one in evaluations for name in one.chief()}
    return {
        "titles": list(titles.values()),
        "rows": [
            {
                "name": one.name or one.role,
                "role_words": ROLES.get(one.role, one.role),
                "n": len(one),
                "cells": [
                    (one.text(name), one.interval_text(name)) if name in one.measured else ("-", "")
                    for name in titles
                ],
            }
            for one in evaluations
        ],
    }


def _confusion(one: Evaluation) -> dict[str, Any]:
    counts = one.confusion
    totals = counts.sum(axis=1)
    return {
        "titles": [spec.title for spec in one.classes],
        "rows": [
            {
                "title": spec.title,
                "total": int(totals[true]),
                "cells": [
                    {
                        "count": int(count),
                        "shade": f"{100 * count / max(int(totals[true]), 1):.0f}",
                        "right": true == answered,
                        "words": f"{int(count)} of {int(totals[true])}: true {spec.title}, "
                        f"predicted {one.classes[answered].title}",
                    }
                    for answered, count in enumerate(counts[true])
                ],
            }
            for true, spec in enumerate(one.classes)
        ],
    }


def _class_row(one: Evaluation, row: Mapping[str, Any], number: int) -> dict[str, Any]:
    def cell(name: str) -> tuple[str, str]:
        value = row[name]["value"]
        shown = "-" if value is None else percent(value)
        return shown, one.interval_text(f"{name}/{number}")

    return {
        "title": one.classes[number].title,
        "support": row["support"],
        "answered": row["answered"],
        "cells": [cell(name) for name in ("precision", "recall", "f1")],
        "areas": [_area(row["roc_auc"]), _area(row["average_precision"])],
    }


def _macro_row(one: Evaluation, document: Mapping[str, Any]) -> dict[str, Any]:
    names = ("macro_precision", "balanced_accuracy", "macro_f1")
    return {
        "title": "mean over classes",
        "support": len(one),
        "answered": len(one),
        "cells": [(one.text(name), one.interval_text(name)) for name in names],
        "areas": [_area(document["macro_roc_auc"]), _area(document["macro_average_precision"])],
    }


def _area(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _unsure(document: Mapping[str, Any]) -> dict[str, str] | None:
    coverage, accuracy = document["coverage"]["value"], document["accuracy"]["value"]
    if coverage is None:
        return None
    return {
        "coverage": percent(coverage),
        "unsure": percent(1 - coverage),
        "accuracy": "-" if accuracy is None else percent(accuracy),
    }


def _dataset(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any] | None:
    if not counts:
        return None
    every = dict.fromkeys(split for row in counts.values() for split in row)
    splits = [split for split in every if any(row.get(split, 0) for row in counts.values())]
    rows = [
        {
            "title": name,
            "cells": [row.get(split, 0) for split in splits],
            "total": sum(row.values()),
        }
        for name, row in counts.items()
    ]
    totals = [sum(row.get(split, 0) for row in counts.values()) for split in splits]
    return {"splits": [s or "-" for s in splits], "rows": rows, "totals": totals}


def _common_folder(names: Sequence[str]) -> str:
    """Return the folder that all images lie in, empty if their ids are no absolute paths."""
    if not names or not all(os.path.isabs(name) for name in names):  # noqa: PTH117
        return ""
    try:
        return os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120
    except ValueError:
        # On several drives of Windows.
        return ""


def _below(name: str, parent: str) -> str:
    return os.path.relpath(name, parent) if parent else name


def _doubtful_labels(one: Evaluation, parent: str) -> dict[str, Any]:
    """Collect the labels that held-out predictions speak against most."""
    doubts = one.label_doubts
    if doubts is None:
        return {}
    rows = np.argsort(-doubts, kind="stable")[: int(np.count_nonzero(doubts))]
    return {
        "count": len(rows),
        "rows": [
            {
                "id": _below(one.ids[row], parent),
                "given": one.classes[one.truth[row]].title,
                "predicted": one.classes[one.predicted[row]].title,
                "confidence": percent(float(one.probabilities[row].max())),
            }
            for row in rows[:_MOST_DOUBTFUL].tolist()
        ],
    }


def mistakes_view(
    evaluation: Evaluation,
    read: Callable[[str], Image] | None,
    shorten: Callable[[str], str],
    explain: Explain | None = None,
) -> list[dict[str, Any]]:
    """Collect the most confident wrong answers, with maps of the evidence for what was predicted.

    Only where the model predicted these images itself, not others like it.
    """
    own = explain if evaluation.role in _OWN_ROLES else None
    return [
        {
            "id": shorten(evaluation.ids[row]),
            "truth": evaluation.classes[evaluation.truth[row]].title,
            "answer": evaluation.classes[evaluation.predicted[row]].title,
            "bars": _bars(evaluation, row),
            **_picture(
                evaluation.ids[row], evaluation.class_names[evaluation.predicted[row]], read, own
            ),
        }
        for row in evaluation.mistakes(MOST_MISTAKES)
    ]


def thumbnail(image: Image) -> str:
    """Make a small picture of an image for a page."""
    return _encoded(to_rgb(image))


def map_picture(image: Image, heat: NDArray[np.float32]) -> str:
    """Make a small picture of evidence, orange for and blue against, over the image in grey.

    `heat`: shape (Y, X), of the image.
    """
    strength = np.nan_to_num(heat / max(float(np.nanmax(np.abs(heat))), 1e-30))[..., np.newaxis]
    colour = np.where(strength > 0, _FOR, _AGAINST)
    opacity = _OPACITY * np.abs(strength)
    grey = to_rgb(image).mean(axis=2, keepdims=True) * _DIMMED
    return _encoded(grey * (1 - opacity) + colour * opacity)


def _encoded(rgb: NDArray[Any]) -> str:
    from PIL import Image as Pillow

    shades = np.nan_to_num(rgb) * 255
    picture = Pillow.fromarray(shades.round().astype(np.uint8))
    picture.thumbnail((_SIDE, _SIDE), Pillow.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _picture(
    name: str, predicted: str, read: Callable[[str], Image] | None, explain: Explain | None
) -> dict[str, str]:
    if read is None:
        return {"picture": "", "map": "", "why": "no picture"}
    try:
        image = read(name)
        heat = None if explain is None else explain(name, predicted)
        evidence = "" if heat is None else map_picture(image, heat)
        return {"picture": thumbnail(image), "map": evidence, "why": ""}
    except (InputError, OSError) as error:
        return {"picture": "", "map": "", "why": f"no picture: {error}"}


def _bars(evaluation: Evaluation, row: int) -> list[dict[str, Any]]:
    """List the most probable classes and, if it is not among them, the true one."""
    probabilities = evaluation.probabilities[row]
    best = [int(n) for n in np.argsort(-probabilities, kind="stable")[:_SHOWN_CLASSES]]
    truth, answer = int(evaluation.truth[row]), int(evaluation.predicted[row])
    if truth not in best:
        best = [*best[: _SHOWN_CLASSES - 1], truth]
    return [
        {
            "name": evaluation.classes[number].title,
            "part": f"{100 * float(probabilities[number]):.2f}",
            "text": percent(float(probabilities[number])),
            "kind": "truth" if number == truth else "answer" if number == answer else "",
        }
        for number in best
    ]
