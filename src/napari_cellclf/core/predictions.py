"""What a classifier answers: probabilities for each image, and the ways to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.calibration import is_unsure, prediction_set
from napari_cellclf.core.counting import counted
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def is_unlike(score: float) -> bool:
    """Whether a score is that of an image unlike anything in training; NaN is no sign of likeness.

    Examples
    --------
    >>> is_unlike(0.9), is_unlike(1.0), is_unlike(1.2), is_unlike(float("nan"))
    (False, False, True, True)
    """
    return not score <= 1


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of one or more images.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K), float32
        One row an image, rows sum to 1.
    classes : tuple of str
        The K class names, in the order of the columns.
    ids : tuple of str
        The N images: paths, or layer names with the position along a stack.
    metadata : tuple of mapping
        For each image what its file or its name says (plate, well, minute, ...).
    model : str
        Name of the model that answered.
    unlike_scores : ndarray, shape (N,), float32, optional
        How unlike each image is to those of training: above 1 the model says "unlike anything in
        training". None where it cannot say.
    remarks : tuple of tuple of str
        For each image what plain checks of its pixels found, such as ``"constant channel: w3"``.
    set_threshold : float, optional
        How probable a class must be to be in the prediction set. None where the model cannot say.

    Examples
    --------
    >>> p = Predictions(np.array([[0.1, 0.9]]), ("RPE", "U2OS"), ids=("a.png",))
    >>> p.label, round(p.confidence, 2), p.top_k(2)
    ('U2OS', 0.9, [('U2OS', 0.9), ('RPE', 0.1)])
    """

    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    metadata: tuple[Mapping[str, Any], ...] = field(default=())
    model: str = ""
    unlike_scores: NDArray[np.float32] | None = None
    remarks: tuple[tuple[str, ...], ...] = field(default=())
    set_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.probabilities.shape != (len(self.ids), len(self.classes)):
            raise InputError(
                f"probabilities of shape {self.probabilities.shape} do not fit "
                f"{counted(len(self.ids), 'image')} and {counted(len(self.classes), 'class')}"
            )
        scores = self.unlike_scores
        if scores is not None and scores.shape != (len(self.ids),):
            raise InputError(
                f"unlike scores of shape {scores.shape} do not fit "
                f"{counted(len(self.ids), 'image')}"
            )
        if not self.metadata:
            object.__setattr__(self, "metadata", tuple({} for _ in self.ids))
        if not self.remarks:
            object.__setattr__(self, "remarks", tuple(() for _ in self.ids))
        if len(self.remarks) != len(self.ids):
            raise InputError(
                f"remarks of {counted(len(self.remarks), 'image')} do not fit "
                f"{counted(len(self.ids), 'image')}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> tuple[str, ...]:
        """The most probable class of each image."""
        return tuple(self.classes[index] for index in self.probabilities.argmax(axis=1))

    @property
    def confidences(self) -> NDArray[np.float32]:
        """The probability of the most probable class of each image, shape (N,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def unlike(self) -> NDArray[np.bool_] | None:
        """Whether each image is unlike anything in training; None where the model cannot say."""
        if self.unlike_scores is None:
            return None
        return np.array([is_unlike(score) for score in self.unlike_scores.tolist()], bool)

    @property
    def sets(self) -> tuple[tuple[str, ...], ...] | None:
        """The classes that each image may be of, the most probable first.

        A promised fraction of them, 90 % unless the model says otherwise, holds the true class (see
        `set_threshold`). None where the model cannot say.
        """
        if self.set_threshold is None:
            return None
        held = prediction_set(self.probabilities, self.set_threshold)
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return tuple(
            tuple(self.classes[index] for index in row if kept[index])
            for row, kept in zip(order, held, strict=True)
        )

    @property
    def label(self) -> str:
        """The most probable class of the only image."""
        self._require_one("label")
        return self.labels[0]

    @property
    def confidence(self) -> float:
        """The probability of the most probable class of the only image."""
        self._require_one("confidence")
        return float(self.confidences[0])

    def top_k(self, k: int = 3, row: int | None = None) -> list[tuple[str, float]]:
        """Return the most probable classes of an image, best first.

        Parameters
        ----------
        k : int
            How many; all classes if there are fewer.
        row : int, optional
            Which image; may be left out if there is only one.

        Returns
        -------
        list of (str, float)
            Class and probability.
        """
        if k < 1:
            raise InputError(f"top_k({k}) asks for no class; give a number of at least 1")
        if row is None:
            self._require_one("top_k", "top_k(k, row)")
            row = 0
        probabilities = self.probabilities[row]
        # A stable sort keeps the order of the classes among equals.
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.classes[index], float(probabilities[index])) for index in order]

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row an image.

        Returns
        -------
        DataFrame
            Columns ``image, label, confidence, p_<class> ...`` and what the names say; after
            ``confidence`` also ``unlike`` and ``unlike_score``, where the model can say, and
            ``remarks``, where there are any.
        """
        import pandas as pd

        return pd.DataFrame([self.record(row) for row in range(len(self))])

    def unsure_column(self, row: int, unsure_below: float | None) -> dict[str, bool]:
        """Say whether an answer is to be read as "unsure".

        Parameters
        ----------
        row : int
            Which one.
        unsure_below : float, optional
            The model's threshold of confidence.

        Returns
        -------
        dict of str to bool
            The column ``unsure``; empty if the model has no threshold.
        """
        if unsure_below is None:
            return {}
        return {"unsure": bool(is_unsure(self.confidences[row], unsure_below))}

    def unlike_columns(self, row: int) -> dict[str, Any]:
        """Say whether an image is unlike anything in training.

        Parameters
        ----------
        row : int
            Which one.

        Returns
        -------
        dict
            The columns ``unlike`` and ``unlike_score``, whose limit is 1; empty where the model
            cannot say.
        """
        if self.unlike_scores is None:
            return {}
        score = float(self.unlike_scores[row])
        return {"unlike": is_unlike(score), "unlike_score": score}

    def record(self, row: int) -> dict[str, Any]:
        """Return one row of the table.

        Parameters
        ----------
        row : int
            Which image.

        Returns
        -------
        dict
            Column to value, in the order of the table.
        """
        probabilities = self.probabilities[row]
        columns: dict[str, Any] = {
            "image": self.ids[row],
            "label": self.classes[int(probabilities.argmax())],
            "confidence": float(probabilities.max()),
        }
        columns |= self.unlike_columns(row)
        if self._has_remarks:
            columns["remarks"] = "; ".join(self.remarks[row])
        columns |= {
            f"p_{name}": float(p) for name, p in zip(self.classes, probabilities, strict=True)
        }
        extra = self.metadata[row]
        return columns | {key: value for key, value in extra.items() if key not in columns}

    @cached_property
    def _has_remarks(self) -> bool:
        return any(self.remarks)

    def _require_one(self, what: str, instead: str | None = None) -> None:
        if len(self) != 1:
            raise InputError(
                f"{what} is for a single image, but these predictions hold {len(self)}; "
                f"use {instead or what + 's'} or to_dataframe()"
            )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions of the same model."""
    first = parts[0]
    scores = [part.unlike_scores for part in parts if len(part)]
    known = [one for one in scores if one is not None]
    return Predictions(
        np.concatenate([part.probabilities for part in parts]),
        first.classes,
        tuple(name for part in parts for name in part.ids),
        tuple(row for part in parts for row in part.metadata),
        first.model,
        np.concatenate(known) if known and len(known) == len(scores) else None,
        tuple(row for part in parts for row in part.remarks),
        first.set_threshold,
    )
