"""Two annotators compared: how far they agree beyond chance, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from napari_cellclf.core.counting import counted


@dataclass(frozen=True)
class Agreement:
    """The labels that two people gave the same rows."""

    #: Rows that both labelled.
    both: int
    #: Those of them with different labels: id, mine, theirs.
    differing: tuple[tuple[str, str, str], ...]
    only_mine: int
    only_theirs: int
    #: Cohen's kappa: 1 full agreement, 0 what chance gives; None where it is not defined, since
    #: both used one and the same class only.
    kappa: float | None

    @property
    def rows(self) -> frozenset[str]:
        """The ids of the rows where they differ."""
        return frozenset(row for row, _, _ in self.differing)

    def sentence(self) -> str:
        """Write the result for people."""
        if not self.both:
            return "No image has a label in both files; choose labels of the same images."
        differ = f"{len(self.differing):,} differ" if self.differing else "all are the same"
        kappa = "not defined (one class only)" if self.kappa is None else f"{self.kappa:.2f}"
        images = counted(self.both, "image has", "images have")
        return f"{images} two labels: {differ}. Cohen's kappa: {kappa}."


def compare_labels(mine: Mapping[str, str], theirs: Mapping[str, str]) -> Agreement:
    """Compare two people's labels; both map ids of rows to names of classes.

    Kappa is that of Cohen, Educational and Psychological Measurement 20, 1960.

    Examples
    --------
    >>> mine = {"a": "round", "b": "round", "c": "long", "d": "long"}
    >>> result = compare_labels(mine, mine | {"d": "round"})
    >>> result.kappa, result.differing
    (0.5, (('d', 'long', 'round'),))
    """
    rows = [row for row in mine if row in theirs]
    pairs = [(mine[row], theirs[row]) for row in rows]
    return Agreement(
        both=len(rows),
        differing=tuple(
            (row, first, second)
            for row, (first, second) in zip(rows, pairs, strict=True)
            if first != second
        ),
        only_mine=len(mine) - len(rows),
        only_theirs=len(theirs) - len(rows),
        kappa=_kappa(pairs),
    )


def _kappa(pairs: list[tuple[str, str]]) -> float | None:
    if len({name for pair in pairs for name in pair}) < 2:
        return None
    # Takes a second to import.
    from sklearn.metrics import cohen_kappa_score

    first, second = zip(*pairs, strict=True)
    return float(cohen_kappa_score(first, second))
