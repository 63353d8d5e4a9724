"""What the widget asks of labelled images, and what is found: no napari, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.counting import counted
from napari_cellclf.errors import NameParseError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.naming import naming_text
from napari_cellclf.plugin.shared.messages import Refusal, sentence

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.dataset_report import DatasetReport
    from napari_cellclf.plugin.shared.background import Ticket

#: The column that is learnt of a table unless another one is chosen.
_USUAL_LABEL = "label"
MINUTES = (51, 204)
#: Columns with more different values than this part of all rows tell images apart, not groups.
_MOST_GROUPS = 0.5
_MOST_COLUMNS = 40
#: Images, at most, that are tried before none of them tells which preset suits.
_TRIED = 5
_NOT_COLUMNS = ("path", "label", "split", "mask", "object", "plane", "who", "when")


@dataclass(frozen=True)
class DataQuestion:
    """Which images to read, and how."""

    #: A folder or a CSV table.
    path: str
    #: The column to learn, where there are several.
    label: str | None = None
    #: Of embryos, keep every n-th minute.
    every: int = 1
    #: Of embryos, keep those between.
    minutes: tuple[int, int] = MINUTES
    #: A naming scheme or pattern; None for any that is installed.
    naming: str | None = None


@dataclass(frozen=True)
class FoundData:
    """The images that were found."""

    #: What was asked.
    question: DataQuestion
    #: All of them.
    dataset: Dataset
    #: The column that is learnt unless another one is chosen.
    usual_label: str
    #: Whether the classes are minutes, of which some are kept.
    has_minutes: bool
    #: Columns that could be learnt instead; empty if there is no choice.
    labels: tuple[str, ...]
    #: Columns that images could be kept together by, the guessed one first.
    groups: tuple[str, ...]
    #: Whether they come with a split.
    given: bool
    #: Name of the preset that suits their pixels; empty where none of the first can be read.
    preset: str = ""

    @property
    def summary(self) -> str:
        """Such as ``"384 images, 4 classes"``."""
        images = counted(len(self.dataset), "image")
        return f"{images}, {counted(len(self.dataset.classes), 'class')}"


def ask(
    path: str,
    *,
    label: str | None = None,
    every: int = 1,
    minutes: tuple[int, int] = MINUTES,
    naming: str | None = None,
) -> DataQuestion | Refusal:
    """Make a question of what stands in the form."""
    if not path.strip():
        return Refusal(
            "Choose a folder with a folder of images for each class, an RxRx1 folder, a folder of "
            "embryos, or a CSV table with columns path and label."
        )
    place = expanded(path.strip())
    if not place.exists():
        return Refusal(f"{place} does not exist; choose a folder or a CSV table.")
    if minutes[0] > minutes[1]:
        return Refusal(f"The minutes {minutes[0]} to {minutes[1]} are none; put them in order.")
    try:
        chosen = naming_text(naming)
    except NameParseError as error:
        return Refusal(sentence(str(error)))
    return DataQuestion(str(place), label, every, minutes, chosen)


def find(question: DataQuestion) -> FoundData:
    """Read what is known of the images without opening them; to be done in a thread."""
    from napari_cellclf.io.datasets import read_dataset, usual_label

    place = Path(question.path)
    columns = table_columns(place) if place.is_file() else ()
    if columns and question.label is None and _USUAL_LABEL not in columns:
        # Any column to begin with; the form shows which, and offers the others.
        question = replace(question, label=columns[0])
    dataset = read_dataset(
        question.path,
        label=question.label,
        every=question.every,
        minutes=question.minutes,
        naming=question.naming,
    )
    usual = usual_label(place, question.naming)
    has_minutes = usual == "minute" and dataset.is_ordered
    if usual and not columns and not has_minutes:
        others = (str(name) for name in dataset.table.columns if name not in _NOT_COLUMNS)
        # A pattern's own field {label} is the class, and no column beside it.
        columns = tuple(dict.fromkeys((usual, *others)))
    return FoundData(
        question,
        dataset,
        usual or "",
        has_minutes,
        columns[:_MOST_COLUMNS],
        group_columns(dataset),
        bool((dataset.table["split"] == "train").any()),
        _preset_for(dataset),
    )


def _preset_for(dataset: Dataset) -> str:
    """Choose a preset by the first image that can be read."""
    from napari_cellclf.errors import InputError
    from napari_cellclf.io.read import read_image
    from napari_cellclf.models.training.presets import suggest_preset

    objects = "object" in dataset.table.columns
    for path in dict.fromkeys(dataset.paths[:_TRIED]):
        try:
            image = read_image(path, naming=dataset.naming)
        except InputError:
            # The look at all files reports it.
            continue
        return suggest_preset(image, ordered=dataset.is_ordered, objects=objects)
    return ""


def inspect(dataset: Dataset, ticket: Ticket) -> tuple[DatasetReport, str]:
    """Look at every file; to be done in a thread."""
    from napari_cellclf.io.dataset_inspection import inspect_dataset
    from napari_cellclf.reports.dataset_summary import dataset_text

    report = inspect_dataset(
        dataset, on_progress=ticket.on_progress, should_stop=ticket.should_stop
    )
    return report, dataset_text(report)


def group_columns(dataset: Dataset) -> tuple[str, ...]:
    """List what images could be kept together by."""
    table = dataset.table
    guess = () if dataset.group_column is None else (dataset.group_column,)
    found = []
    for name in table.columns:
        if name in _NOT_COLUMNS or name in guess:
            continue
        if 2 <= table[name].astype(str).nunique() <= max(2, _MOST_GROUPS * len(table)):
            found.append(str(name))
    return (*guess, *found[:_MOST_COLUMNS])


def table_columns(table: Path) -> tuple[str, ...]:
    """List the columns of a table that could be learnt."""
    from napari_cellclf.io.csv_tables import read_csv
    from napari_cellclf.io.sources import path_column

    columns = read_csv(table).columns
    others = (path_column(table, columns).lower(), "path", "split")
    return tuple(name.lower() for name in columns if name.lower() not in others)
