"""How good a classifier is on labelled images, with how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.bootstrap import Interval, Units, bootstrap, units_of
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.evaluation_figures import Figures
from napari_cellclf.core.metrics import ClassScores, class_scores, confusion_matrix
from napari_cellclf.core.ordered import Scale, scale_of
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP_K = (1, 3, 6)
REPLICATES, SEED, LEVEL = 1000, 0, 0.95


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A classifier's answers on images whose classes are known, and every figure made of them.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K), float32
        One row an image, rows sum to 1, with the model's temperature.
    truth : ndarray of int, shape (N,)
        The right class numbers.
    classes : tuple of ClassSpec
        The K classes, in the order of the columns.
    ids : tuple of str
        The N images.
    groups : tuple of str
        What each image belongs to (a plate, an embryo), empty where nothing is known.
    name : str
        Such as ``"plate 3, held out"``.
    role : str
        What the images were to the model: ``"train"``, ``"validation"``, ``"test"``,
        ``"leave-one-group-out"`` or ``"k-fold"``.
    temperature : float
        That of the model; told only, it is in the probabilities already.
    unsure_threshold : float, optional
        Below this confidence an answer is to be read as "unsure".
    top_k : tuple of int
        Which k to report; those that are not below the number of classes say nothing and are left
        out.
    notes : tuple of str
        Sentences about the images that a reader must know.
    failed : tuple of (str, str)
        Images that could not be classified, and why. They are in no figure.

    Examples
    --------
    >>> answers = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> ids = ("a.png", "b.png", "c.png")
    >>> done = Evaluation.from_probabilities(answers, [0, 1, 1], ("RPE", "U2OS"), ids=ids)
    >>> round(done.accuracy, 3), done.confusion.tolist(), [done.ids[i] for i in done.mistakes()]
    (0.667, [[1, 0], [1, 1]], ['b.png'])
    """

    probabilities: NDArray[np.float32]
    truth: NDArray[np.int64]
    classes: tuple[ClassSpec, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] = ()
    name: str = ""
    role: str = "test"
    temperature: float = 1.0
    unsure_threshold: float | None = None
    top_k: tuple[int, ...] = TOP_K
    notes: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_probabilities(
        cls,
        probabilities: NDArray[np.floating],
        truth: Sequence[int] | NDArray[np.integer],
        classes: Sequence[ClassSpec | str],
        *,
        ids: Sequence[str],
        groups: Sequence[str] | None = None,
        **details: Any,
    ) -> Evaluation:
        """Make an evaluation from plain arrays, having checked that they fit.

        Parameters
        ----------
        probabilities : ndarray, shape (N, K)
            Finite, not negative.
        truth : sequence of int
            N class numbers.
        classes : sequence of ClassSpec or str
            K classes, or their names.
        ids : sequence of str
            N images.
        groups : sequence of str, optional
            The group of each image.
        **details
            The further fields: `name`, `role`, `temperature`, `unsure_threshold`, `top_k`,
            `notes`, `failed`.

        Returns
        -------
        Evaluation
            Ready to be asked.

        Raises
        ------
        InputError
            If there are no images, or the arrays do not fit each other.
        """
        numbers = np.asarray(truth, np.int64)
        table = np.asarray(probabilities, np.float32)
        specs = tuple(ClassSpec(name=one) if isinstance(one, str) else one for one in classes)
        members = tuple(map(str, groups)) if groups is not None else ()
        _check_fit(table, numbers, len(specs), len(ids), len(members))
        return cls(table, numbers, specs, tuple(map(str, ids)), members, **details)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(one.name for one in self.classes)

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """The most probable class number of each image, shape (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidences(self) -> NDArray[np.float32]:
        """The probability of each answer, shape (N,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """How often each true class (row) was answered to be each class (column)."""
        return confusion_matrix(self.truth, self.answers, len(self.classes))

    @cached_property
    def scores(self) -> ClassScores:
        """Precision, recall and F1 of each class."""
        return class_scores(self.truth, self.answers, len(self.classes))

    @cached_property
    def scale(self) -> Scale | None:
        """The scale of ordered classes."""
        return scale_of(self.classes)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The k of `top_k` that say something: below the number of classes, ascending."""
        return tuple(sorted({k for k in self.top_k if 1 <= k < len(self.classes)}))

    @cached_property
    def figures(self) -> dict[str, float]:
        """Every figure by its name; see `Figures`. NaN where one is not defined."""
        return self._figures(np.ones(len(self)))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Intervals that hold 95 % of the replicates of a bootstrap over groups, by figure."""
        return bootstrap(self._figures, self.units, replicates=REPLICATES, seed=SEED, level=LEVEL)

    @cached_property
    def units(self) -> Units:
        """What is drawn for the intervals."""
        return units_of(self.groups, len(self))

    @property
    def accuracy(self) -> float:
        """The part of the images that were classified right."""
        return self.figures["accuracy"]

    @property
    def balanced_accuracy(self) -> float:
        """The mean over classes of the part that was classified right."""
        return self.figures["balanced_accuracy"]

    @property
    def majority(self) -> tuple[ClassSpec, float]:
        """The most frequent class of these images, and the accuracy of always answering it."""
        counts = np.bincount(self.truth, minlength=len(self.classes))
        return self.classes[int(counts.argmax())], float(counts.max() / len(self))

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / len(self.classes)

    def mistakes(self, most: int | None = None) -> list[int]:
        """Return the wrong answers.

        Parameters
        ----------
        most : int, optional
            How many; all if left out.

        Returns
        -------
        list of int
            Rows, the most confident mistake first.
        """
        wrong = np.flatnonzero(self.answers != self.truth)
        order = np.argsort(-self.confidences[wrong], kind="stable")
        return [int(row) for row in wrong[order][:most]]

    def headline(self) -> dict[str, float]:
        """Return the figures that a model card holds.

        Returns
        -------
        dict of str to float
            Finite numbers; without those of single classes.
        """
        return {
            name: value
            for name, value in self.figures.items()
            if "/" not in name and name not in ("top_1", "macro_recall") and np.isfinite(value)
        }

    def metrics(self) -> dict[str, Any]:
        """Return everything that a report shows, as numbers.

        Returns
        -------
        dict
            Fit for JSON: text, finite numbers, None, lists and dicts. The keys are always the same.
        """
        from napari_cellclf.core.evaluation_document import document

        return document(self)

    def summary(self) -> str:
        """Return the chief figures in a few lines.

        Returns
        -------
        str
            Plain text with their intervals and the levels beside them.
        """
        from napari_cellclf.core.evaluation_text import summary

        return summary(self)

    @cached_property
    def _figures(self) -> Figures:
        return Figures(
            self.probabilities,
            self.truth,
            top_k=self.ranks,
            scale=self.scale,
            threshold=self.unsure_threshold,
        )


def pooled(
    evaluations: Sequence[Evaluation], *, name: str = "", role: str = "leave-one-group-out"
) -> Evaluation:
    """Put the evaluations of several folds together, each image counting once in its own.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        At least one; all of the same classes.
    name, role : str
        Of the whole.

    Returns
    -------
    Evaluation
        All images in order. The temperature and the threshold are kept if all agree.

    Raises
    ------
    InputError
        If there is none, or their classes differ.
    """
    if not evaluations or any(one.classes != evaluations[0].classes for one in evaluations):
        raise InputError(
            f"{len(evaluations)} evaluations cannot be put together; give at least one, all of "
            "the same classes"
        )
    first = evaluations[0]
    temperatures = {one.temperature for one in evaluations}
    thresholds = {one.unsure_threshold for one in evaluations}
    return replace(
        first,
        probabilities=np.concatenate([one.probabilities for one in evaluations]),
        truth=np.concatenate([one.truth for one in evaluations]),
        ids=tuple(one for part in evaluations for one in part.ids),
        groups=tuple(group for part in evaluations for group in part.groups or ("",) * len(part)),
        name=name,
        role=role,
        temperature=first.temperature if len(temperatures) == 1 else 1.0,
        unsure_threshold=first.unsure_threshold if len(thresholds) == 1 else None,
        notes=tuple(dict.fromkeys(note for part in evaluations for note in part.notes)),
        failed=tuple(one for part in evaluations for one in part.failed),
    )


def _check_fit(
    probabilities: NDArray[np.float32],
    truth: NDArray[np.int64],
    n_classes: int,
    n_ids: int,
    n_groups: int,
) -> None:
    if not n_ids or probabilities.shape != (n_ids, n_classes) or truth.shape != (n_ids,):
        raise InputError(
            f"probabilities of shape {probabilities.shape}, {truth.size} true classes, {n_ids} ids "
            f"and {n_classes} classes do not fit; give one row and one truth for each of at least "
            "one image"
        )
    if n_groups not in (0, n_ids):
        raise InputError(f"{n_groups} groups were given for {n_ids} images; give one for each")
    if not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise InputError("probabilities must be finite and not negative; check the model's output")
    wrong = sorted({int(number) for number in truth if not 0 <= number < n_classes})
    if wrong:
        raise InputError(
            f"true class numbers {wrong[:5]} are not among the {n_classes} classes; use 0 to "
            f"{n_classes - 1}"
        )
