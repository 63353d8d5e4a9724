"""What will be trained, decided before anything is: split, settings and command. No Qt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.errors import CellclfError, DatasetError, LeakageError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.plugin.shared.messages import Refusal, sentence
from napari_cellclf.plugin.train.data import MINUTES, DataQuestion, FoundData

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.models.training.presets import Preset
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
    #: Images, split and settings, as they were chosen; equal where a run would be the same.
    chosen: Hashable = None

    def write_down(self) -> RunFolder:
        """Make the run's folder; to be done in a thread."""
        from napari_cellclf.runs.create import create_run

        return create_run(self.dataset, self.config, self.folder, preset=self.preset)


def plan(
    found: FoundData | None,
    split: SplitResult | None,
    settings: ModelSettings | Refusal,
    folder: str,
) -> TrainRequest | Refusal:
    """Put together what was chosen."""
    if found is None:
        return Refusal("Choose labelled images first; see Data above.")
    if split is None:
        return Refusal("The images are still being split; wait a moment.")
    if split.dataset is None:
        return Refusal("This split was refused; see Split above.")
    if isinstance(settings, Refusal):
        return Refusal("Invalid settings; see Model above.")
    if not folder.strip():
        return Refusal("Choose an output folder for the run.")
    place = expanded(folder.strip()).absolute()
    command = command_line(found.question, found, split.choice, settings, place)
    chosen = (found.question, split.choice, settings.arguments)
    return TrainRequest(split.dataset, settings.config, settings.preset, place, command, chosen)


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


@dataclass(frozen=True)
class ModelEntries:
    """What stands in the form; empty texts leave the preset's."""

    #: Name of a preset.
    preset: str
    architecture: str = ""
    epochs: str = ""
    batch_size: str = ""
    learning_rate: str = ""
    #: A bundle.
    continue_from: str = ""
    #: Advanced settings: the name of each, as after ``--set``, and its value as typed.
    advanced: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ModelSettings:
    """Checked settings."""

    #: Where they come from.
    preset: str
    #: All of them.
    config: TrainingConfig
    #: The arguments of ``cellclf train`` that say the same.
    arguments: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        """Whether anything is not as in the preset."""
        return len(self.arguments) > len(("--preset", self.preset))


@dataclass(frozen=True)
class Usual:
    """What a preset does if nothing is entered."""

    architecture: str
    epochs: str
    batch_size: str
    learning_rate: str


def usual(preset: Preset) -> Usual:
    """Say what a preset does."""
    from napari_cellclf.models.training.presets import make_config

    config = make_config(preset.config)
    head = not config.epochs
    return Usual(
        config.architecture,
        str(config.head_epochs if head else config.epochs),
        str(config.batch_size),
        f"{config.head_learning_rate if head else config.learning_rate:g}",
    )


def settle(entries: ModelEntries, seed: int = 0) -> ModelSettings | Refusal:
    """Check what was entered."""
    from napari_cellclf.models.training.config import parse_value
    from napari_cellclf.models.training.presets import find_preset, make_config

    try:
        architecture = entries.architecture.strip() or None
        fields = find_preset(entries.preset).fields_for(architecture)
        overrides: dict[str, Any] = {"seed": seed}
        # Of a preset that only trains a head, epochs and rate mean the head's.
        prefix = "" if fields.get("epochs", 1) else "head_"
        arguments, typed = ["--preset", entries.preset], []
        if architecture is not None:
            arguments += ["--architecture", architecture]
        for option, key, text in (
            ("--epochs", f"{prefix}epochs", entries.epochs),
            ("--batch-size", "batch_size", entries.batch_size),
            ("--learning-rate", f"{prefix}learning_rate", entries.learning_rate),
            ("--continue-from", "continue_from", entries.continue_from),
        ):
            if text.strip():
                overrides[key] = text.strip()
                typed.append((option, key))
        overrides |= {key: parse_value(text) for key, text in entries.advanced}
        config = make_config(fields, overrides)
        for option, key in typed:
            # As it was understood: 5.0 epochs are 5, as the command line wants them.
            arguments += [option, _written(getattr(config, key))]
        for key, text in entries.advanced:
            arguments += ["--set", f"{key}={text}"]
        return ModelSettings(entries.preset, config, tuple(arguments))
    except CellclfError as error:
        return Refusal(sentence(str(error)))


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


RANDOM, GIVEN = "random", "given"
DEFAULT_PARTS = (15, 15)


@dataclass(frozen=True)
class SplitChoice:
    """How to divide.

    `validation`, `test`: part of the images that is held out for each, in percent.
    """

    #: `RANDOM`, `GIVEN`, a column, or several joined by ``+``.
    by: str
    validation: int = DEFAULT_PARTS[0]
    test: int = DEFAULT_PARTS[1]
    #: The same number divides in the same way.
    seed: int = 0
    #: Whether one group may be on both sides.
    allow_leakage: bool = False

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Of training, validation and test."""
        held_out = self.validation + self.test
        return ((100 - held_out) / 100, self.validation / 100, self.test / 100)


@dataclass(frozen=True)
class SplitResult:
    """What came of it."""

    #: What was chosen.
    choice: SplitChoice
    #: Divided; None if that was refused.
    dataset: Dataset | None = None
    #: For each class its images in training, validation and test.
    counts: tuple[tuple[str, tuple[int, int, int]], ...] = ()
    #: Why it was refused.
    problem: str = ""
    #: Whether it was refused, or is allowed only by the user, because groups are on both sides.
    leaks: bool = False

    @property
    def totals(self) -> tuple[int, int, int]:
        """Images in training, validation and test."""
        columns = [sum(numbers[part] for _, numbers in self.counts) for part in range(3)]
        return columns[0], columns[1], columns[2]

    @property
    def summary(self) -> str:
        """Such as ``"16 train, 4 validation, 4 test"``."""
        train, validation, test = self.totals
        return f"{train} train, {validation} validation, {test} test"


def divide(dataset: Dataset, choice: SplitChoice) -> SplitResult:
    """Divide a data set; to be done in a thread."""
    try:
        divided = dataset.split(
            choice.by,
            fractions=choice.fractions,
            seed=choice.seed,
            allow_leakage=choice.allow_leakage,
        )
    except LeakageError as error:
        return SplitResult(choice, problem=_for_the_window(error), leaks=True)
    except DatasetError as error:
        return SplitResult(choice, problem=sentence(str(error)))
    rows = divided.counts()
    counts = tuple(
        (str(name), (int(train), int(validation), int(test)))
        for name, train, validation, test in zip(
            rows.index, rows["train"], rows["validation"], rows["test"], strict=True
        )
    )
    return SplitResult(choice, divided, counts, leaks=bool(divided.leaks()))


def _for_the_window(error: LeakageError) -> str:
    """Name the remedy that this widget has, instead of that of scripts and commands."""
    text = str(error).replace("(allow_leakage=True, --allow-leakage)", "below")
    return sentence(text)
