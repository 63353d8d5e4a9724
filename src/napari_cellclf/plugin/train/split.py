"""How the images are divided, tried before anything is trained: no napari, no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cellclf.errors import DatasetError, LeakageError
from napari_cellclf.plugin.shared.explain import sentence

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset

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
class SplitAnswer:
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


def divide(dataset: Dataset, choice: SplitChoice) -> SplitAnswer:
    """Divide a data set; to be done in a thread."""
    try:
        divided = dataset.split(
            choice.by,
            fractions=choice.fractions,
            seed=choice.seed,
            allow_leakage=choice.allow_leakage,
        )
    except LeakageError as error:
        return SplitAnswer(choice, problem=_for_the_window(error), leaks=True)
    except DatasetError as error:
        return SplitAnswer(choice, problem=sentence(str(error)))
    rows = divided.counts()
    counts = tuple(
        (str(name), (int(train), int(validation), int(test)))
        for name, train, validation, test in zip(
            rows.index, rows["train"], rows["validation"], rows["test"], strict=True
        )
    )
    return SplitAnswer(choice, divided, counts, leaks=bool(divided.leaks()))


def _for_the_window(error: LeakageError) -> str:
    """Name the remedy that this widget has, instead of that of scripts and commands."""
    text = str(error).replace("(allow_leakage=True, --allow-leakage)", "below")
    return sentence(text)
