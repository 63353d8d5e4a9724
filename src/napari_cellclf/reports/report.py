"""Write the report's files: the page, its numbers, and the predictions they are made of."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from napari_cellclf.core.evaluation import SCHEMA_VERSION
from napari_cellclf.errors import InputError
from napari_cellclf.io.csv_tables import safe_row
from napari_cellclf.io.replacing import refusals, replacing
from napari_cellclf.reports.page import Explain, page_view

if TYPE_CHECKING:
    import pandas as pd

    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.core.image import Image

PAGE, METRICS, PREDICTIONS = "report.html", "metrics.json", "predictions.csv"

Read = Callable[[str], "Image"]
Counts = Mapping[str, Mapping[str, int]]


def write_report(
    folder: str | Path,
    evaluations: Sequence[Evaluation],
    *,
    title: str,
    read: Read | None = None,
    explain: Explain | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    dataset_counts: Counts | pd.DataFrame | None = None,
    warnings: Sequence[tuple[str, str]] = (),
    facts: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html``, ``metrics.json`` and ``predictions.csv``.

    Parameters
    ----------
    folder : str or Path
        Where; made if it is not there. Files of an earlier report are replaced, each as a whole.
    evaluations : sequence of Evaluation
        At least one, the chief one first.
    title : str
        The page's heading.
    read : callable, optional
        From an image's id to the `Image`, one plane, for thumbnails of the worst mistakes. What
        it raises as an `InputError` or `OSError` leaves an empty place.
    explain : callable, optional
        From an image's id and the name of a class to the evidence for it, a map (Y, X) shown beside
        the thumbnail, or None; see `MistakeMaps`.
    history : sequence of mapping
        One for each epoch of training: ``stage``, ``epoch``, ``loss``, ``accuracy``,
        ``validation_loss``, ``validation_accuracy``, ``learning_rate``.
    dataset_counts : DataFrame or mapping of str to mapping of str to int, optional
        Images by class (rows), then by split.
    warnings : sequence of (str, str)
        Level and sentence: ``"error"`` is a red banner, for metrics that must not be trusted;
        ``"warning"`` amber; anything else plain.
    facts : mapping of str to str, optional
        What else to say of the model and its images, by name.

    settings : mapping of str to object, optional
        The configuration that was trained, as JSON takes it.

    Returns
    -------
    Path
        The page. It is complete in itself: no script, nothing fetched.

    Raises
    ------
    InputError
        If there is no evaluation, or the folder cannot be written.
    """
    if not evaluations:
        raise InputError("a report needs at least one evaluation; evaluate the model first")
    counts = _counts(dataset_counts)
    told = [(str(level), str(sentence)) for level, sentence in warnings]
    numbers = {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "facts": dict(facts or {}),
        "settings": dict(settings or {}),
        "warnings": [{"level": level, "message": sentence} for level, sentence in told],
        "dataset": counts,
        "history": [_plain(record) for record in history],
        "evaluations": [one.metrics() for one in evaluations],
    }
    view = page_view(numbers, evaluations, read, explain)
    out = Path(folder)
    with refusals(out):
        out.mkdir(parents=True, exist_ok=True)
    with _replacing(out / PREDICTIONS) as file:
        _write_predictions(evaluations, file)
    with _replacing(out / METRICS) as file:
        json.dump(numbers, file, indent=1, allow_nan=False)
        file.write("\n")
    with _replacing(out / PAGE) as file:
        file.write(render(view))
    return out / PAGE


def render(view: Mapping[str, Any]) -> str:
    """Fill the page's template.

    Parameters
    ----------
    view : mapping
        As `page_view` makes it.

    Returns
    -------
    str
        HTML; every text is escaped but the plots and the style, which are our own (`safe` in the
        template).
    """
    from jinja2 import Environment, StrictUndefined

    here = files(__package__)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    text = template.render(view, style=style)
    # Names of files on Linux may hold what is no text at all.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_predictions(evaluations: Sequence[Evaluation], file: IO[str]) -> None:
    table = csv.writer(file)
    names = list(dict.fromkeys(name for one in evaluations for name in one.class_names))
    fixed = ("evaluation", "role", "image", "group", "truth", "label", "confidence")
    table.writerow(safe_row((*fixed, *(f"p_{name}" for name in names), "label_doubt")))
    for one in evaluations:
        doubts = one.label_doubts
        groups = one.groups or ("",) * len(one)
        for row, image in enumerate(one.ids):
            shown = dict(zip(one.class_names, map(float, one.probabilities[row]), strict=True))
            truth, answer = (one.class_names[n[row]] for n in (one.truth, one.predicted))
            cells = (one.name, one.role, image, groups[row], truth, answer, shown[answer])
            doubt = None if doubts is None else float(doubts[row])
            table.writerow(safe_row((*cells, *(shown.get(name) for name in names), doubt)))


def _counts(given: Counts | pd.DataFrame | None) -> dict[str, dict[str, int]]:
    if given is None:
        return {}
    table: Any = given if isinstance(given, Mapping) else given.to_dict("index")
    return {
        str(name): {str(split): int(n) for split, n in row.items()} for name, row in table.items()
    }


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as JSON knows it; a loss may have become NaN."""
    return {
        str(key): None if isinstance(value, float) and value - value != 0 else value
        for key, value in record.items()
    }


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    with (
        replacing(path) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield file
