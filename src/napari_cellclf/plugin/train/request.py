"""Everything that one training needs, or why it cannot begin: no napari, no Qt."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.io.files import expanded
from napari_cellclf.plugin.shared.refusal import Refusal
from napari_cellclf.plugin.train.data import MINUTES, DataQuestion, FoundData
from napari_cellclf.plugin.train.settings import ModelSettings
from napari_cellclf.plugin.train.split import (
    DEFAULT_PARTS,
    GIVEN,
    RANDOM,
    SplitAnswer,
    SplitChoice,
)

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.runs.folder import RunFolder

#: Where runs go if nothing else is said.
RUNS = Path("~/cellclf-runs")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class TrainRequest:
    """A training to begin."""

    #: Divided.
    dataset: Dataset
    #: How.
    config: TrainingConfig
    #: Where `config` came from.
    preset: str
    #: New.
    folder: Path
    #: The command line that does the same.
    command: str

    def write_down(self) -> RunFolder:
        """Make the run's folder; to be done in a thread."""
        from napari_cellclf.runs.create import create_run

        return create_run(self.dataset, self.config, self.folder, preset=self.preset)


def plan(
    found: FoundData | None,
    split: SplitAnswer | None,
    settings: ModelSettings | Refusal,
    folder: str,
) -> TrainRequest | Refusal:
    """Put together what was chosen."""
    if found is None:
        return Refusal("Choose labelled images first, in Data above.")
    if split is None:
        return Refusal("The images are still being divided; wait a moment.")
    if split.dataset is None:
        return Refusal("This split is refused; Split above says why.")
    if isinstance(settings, Refusal):
        return Refusal("These settings cannot be; Model above says why.")
    if not folder.strip():
        return Refusal("Say in which folder the run shall be kept.")
    place = expanded(folder.strip()).absolute()
    command = command_line(found.question, found, split.choice, settings, place)
    return TrainRequest(split.dataset, settings.config, settings.preset, place, command)


def suggest_folder(found: FoundData, preset: str, runs: Path | None = None) -> Path:
    """Suggest a new folder for a run."""
    source = Path(found.question.path)
    stem = source.stem if source.is_file() else source.resolve().name
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{stem[:_LONGEST_NAME]}-{preset}").strip("-").lower()
    home = expanded(runs or RUNS)
    folder = home / name
    number = 2
    while folder.exists():
        folder = home / f"{name}-{number}"
        number += 1
    return folder


def command_line(
    question: DataQuestion,
    found: FoundData,
    choice: SplitChoice,
    settings: ModelSettings,
    folder: Path,
) -> str:
    """Return the command that trains the same."""
    parts = ["cellclf", "train", question.path, "--out", str(folder), *settings.arguments]
    if question.label is not None:
        parts += ["--label", question.label]
    if question.naming is not None:
        parts += ["--naming", question.naming]
    if found.has_minutes:
        parts += ["--every", str(question.every)]
        if question.minutes != MINUTES:
            parts += ["--minutes", "{}-{}".format(*question.minutes)]
    return shlex.join([*parts, *_split_arguments(found, choice)])


def resume_command(folder: Path) -> str:
    """Return the command that goes on with a run.

    Examples
    --------
    >>> resume_command(Path("my run"))
    "cellclf train 'my run'"
    """
    return shlex.join(["cellclf", "train", str(folder)])


def _split_arguments(found: FoundData, choice: SplitChoice) -> list[str]:
    parts: list[str] = []
    if choice.by in (RANDOM, GIVEN):
        parts += ["--split", choice.by]
    else:
        if choice.by != found.dataset.group_column:
            parts += ["--group-by", choice.by]
        parts += ["--split", "group"]
    if choice.by != GIVEN and (choice.validation, choice.test) != DEFAULT_PARTS:
        parts += ["--fractions", ",".join(f"{part:g}" for part in choice.fractions)]
    if choice.seed:
        parts += ["--seed", str(choice.seed)]
    if choice.allow_leakage:
        parts.append("--allow-leakage")
    return parts
