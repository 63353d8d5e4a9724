"""What a finished run found, in a line: no napari, no Qt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellclf.runs.folder import RunFolder


@dataclass(frozen=True)
class RunHeadline:
    """What to show of a finished run."""

    #: The chief figure with its interval.
    text: str
    #: The page to open.
    report: Path | None


def headline(run: RunFolder) -> RunHeadline:
    """Read what a finished run found; to be done in a thread."""
    page = run.report / "report.html"
    report = page if page.is_file() else None
    try:
        found = json.loads((run.report / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    evaluation = _first(found)
    if evaluation is None:
        return RunHeadline(
            "The model is ready. No images were held out, so nobody knows how good it is.", report
        )
    return RunHeadline(_sentence(evaluation), report)


def _first(found: Any) -> dict[str, Any] | None:
    inside = found.get("evaluations") if isinstance(found, dict) else None
    return inside[0] if isinstance(inside, list) and inside else None


def _sentence(evaluation: dict[str, Any]) -> str:
    figure = evaluation.get("accuracy") or {}
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "The model is ready; the report says how good it is."
    role, number = evaluation.get("role", "held-out"), evaluation.get("n", 0)
    interval = ""
    if low is not None and high is not None:
        interval = f" (95 % interval {_percent(low)} to {_percent(high)})"
    return f"Accuracy {_percent(value)}{interval} on {number} {role} image{'s' * (number != 1)}."


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
