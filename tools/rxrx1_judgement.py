"""Judge networks by their answers to left-out plates, and calibrate on those answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batch_shifts import SHIFTS

from napari_cellclf.bundles.schema import EvaluationSpec
from napari_cellclf.core.calibration import (
    Calibration,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    set_threshold,
)

#: Answers at or above the "unsure" threshold were right this often on left-out, shifted fields.
TRUSTED = 0.97


#: Before the name of a view: the true classes of its fields.
TRUTH = "truth of "


@dataclass(frozen=True)
class Judgement:
    """Answers to left-out plates: for each view, of each seed and of the seeds together."""

    truth: dict[str, np.ndarray[Any, Any]]
    by_seed: dict[str, np.ndarray[Any, Any]]

    def together(self, view: str) -> np.ndarray[Any, Any]:
        """Return the mean answer of all seeds, as the final model gives it, shape (N, K)."""
        return np.asarray(self.by_seed[view].mean(axis=0))

    def always_right(self) -> frozenset[str]:
        """Return the views in which no left-out field is predicted wrongly."""
        return frozenset(
            view
            for view in self.by_seed
            if self.right(view, self.together(view)) == len(self.truth[view])
        )

    def right(self, view: str, probabilities: np.ndarray[Any, Any]) -> int:
        """Count the right answers."""
        return int((probabilities.argmax(axis=1) == self.truth[view]).sum())


def collect(files: Sequence[Sequence[Path]]) -> Judgement:
    """Put the answers of all seeds (outer) and plates (inner) together."""
    loaded = [[dict(np.load(file)) for file in of_seed] for of_seed in files]
    names = [name for name in loaded[0][0] if not name.startswith(TRUTH)]
    truth = {name: np.concatenate([part[TRUTH + name] for part in loaded[0]]) for name in names}
    by_seed = {
        name: np.stack([np.concatenate([part[name] for part in parts]) for parts in loaded])
        for name in names
    }
    return Judgement(truth, by_seed)


def calibrate(judgement: Judgement) -> Calibration:
    """Fit temperature and thresholds on all views of the left-out plates."""
    pooled = np.concatenate([judgement.together(name) for name in judgement.by_seed])
    truth = np.concatenate([judgement.truth[name] for name in judgement.by_seed])
    # Never sharper than what was trained: a new batch differs by more than was simulated.
    temperature = max(1.0, fit_temperature(pooled, truth))
    softened = apply_temperature(pooled, temperature)
    confidence, right = softened.max(axis=1), softened.argmax(axis=1) == truth
    # An answer that is less likely than all others together is unsure in any case.
    candidates = np.arange(0.5, 0.96, 0.01)
    good = [t for t in candidates if right[confidence >= t].mean() >= TRUSTED]
    unsure = round(float(good[0] if good else candidates[-1]), 2)
    return Calibration(round(temperature, 3), unsure, _set_threshold(judgement, temperature))


def _set_threshold(judgement: Judgement, temperature: float) -> float:
    """Choose how probable a class of a set must be, for any subset of stains by itself.

    A few stains are predicted far less surely than all of them; what holds for all views together
    would promise too much of a lone stain.
    """
    return min(
        set_threshold(apply_temperature(answers.mean(axis=0), temperature), judgement.truth[view])
        for view, answers in judgement.by_seed.items()
        if view.split(", ")[0] not in SHIFTS
    )


def evaluation_name(view: str) -> str:
    """Name a view in the model card so that nobody takes a made change for another experiment."""
    if view == "as it is":
        return f"leave one plate out, {view}"
    change = "simulated change" if view.split(", ")[0] in SHIFTS else "stains left out"
    return f"leave one plate out, {view} ({change})"


def evaluations(judgement: Judgement, calibration: Calibration) -> list[EvaluationSpec]:
    """Say how well each view was answered."""
    temperature, threshold = calibration.temperature, calibration.unsure_threshold
    found = []
    for name in judgement.by_seed:
        answers = apply_temperature(judgement.together(name), temperature)
        of_seeds = [judgement.right(name, each) for each in judgement.by_seed[name]]
        wrong = answers.argmax(axis=1) != judgement.truth[name]
        sure = answers.max(axis=1) >= threshold
        metrics = {
            "accuracy": judgement.right(name, answers) / len(answers),
            **({"worst seed's accuracy": min(of_seeds) / len(answers)} if of_seeds[1:] else {}),
            "unsure": float((~sure).sum()),
            "wrong and not unsure": float((wrong & sure).sum()),
            "mean confidence": float(answers.max(axis=1).mean()),
            "calibration error": expected_calibration_error(answers, judgement.truth[name]),
        }
        found.append(
            EvaluationSpec(
                name=evaluation_name(name),
                role="leave-one-group-out",
                n=len(answers),
                metrics={key: round(value, 4) for key, value in metrics.items()},
            )
        )
    return found


def report(judgement: Judgement) -> None:
    """Print the table of all views."""
    calibration = calibrate(judgement)
    temperature, threshold = calibration.temperature, calibration.unsure_threshold
    print(f"temperature {temperature}, unsure below {threshold}")
    for name, answers in judgement.by_seed.items():
        together = apply_temperature(judgement.together(name), temperature)
        seeds = " ".join(f"{judgement.right(name, each):2d}" for each in answers)
        wrong = together.argmax(axis=1) != judgement.truth[name]
        sure = together.max(axis=1) >= threshold
        print(
            f"{name:32s} seeds: {seeds}   together: {judgement.right(name, together):2d} of "
            f"{len(together)}, mean confidence {together.max(axis=1).mean():.2f}, unsure "
            f"{(~sure).sum():2d}, wrong and not unsure {(wrong & sure).sum():2d}"
        )
