"""A backbone and the head that was fitted on it, as a model that can be used at once.

This imports no Keras: a child process (`models/backbone_child.py`) writes the bundle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from napari_cellclf.bundles.arrays import dump_weights, parse_weights
from napari_cellclf.bundles.schema import (
    EvaluationSpec,
    PredictionSetSpec,
    TrainingSpec,
    prediction_sets_of,
)
from napari_cellclf.core.calibration import apply_temperature, calibrate
from napari_cellclf.core.metrics import METRICS, Outcomes
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.suggesting import Estimate, Head, Suggester
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.errors import InputError
from napari_cellclf.models.backbones import Backbone

if TYPE_CHECKING:
    from numpy.typing import NDArray

REQUEST, HEAD, SEEN, KNOWN = "request.json", "head.npz", "seen.txt", "known.safetensors"
_METRICS = ("accuracy", "balanced_accuracy", "loss")


class SuggestedModel(BaseModel):
    """What a bundle says of a backbone with a head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backbone: Backbone
    classes: tuple[str, ...]
    training: TrainingSpec
    evaluations: tuple[EvaluationSpec, ...]
    temperature: float
    unsure_threshold: float | None
    prediction_sets: PredictionSetSpec | None
    limits: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """Return the other fields of the bundle."""
        return {
            "name": self.name,
            "title": self.name,
            "evaluations": self.evaluations,
            "temperature": self.temperature,
            "unsure_threshold": self.unsure_threshold,
            "prediction_sets": self.prediction_sets,
            "limits": self.limits,
        }


def describe_suggested_model(
    suggester: Suggester,
    backbone: Backbone,
    labels: Mapping[int, int],
    classes: Sequence[str],
    *,
    name: str,
    source: str = "",
    group_column: str | None = None,
    estimate: Estimate | None = None,
) -> tuple[SuggestedModel, Head]:
    """Fit the head, calibrate it on cross-validated predictions, and say how good it is."""
    head = suggester.head(labels, len(classes))
    rows, probabilities = suggester.cross_validated(labels, len(classes))
    known = probabilities.max(axis=1) > 0
    if not known.any():
        raise InputError(
            "all labels of a class are in one group, or it has one label only; label more images"
        )
    numbers = {number: column for column, number in enumerate(head.classes)}
    truth = np.array([numbers[labels[row]] for row in rows[known].tolist()], np.int64)
    # A class may be missing where its only group was left out.
    predicted = np.asarray(probabilities[known][:, head.classes], np.float32)
    calibration = calibrate(predicted, truth)
    names = tuple(classes[number] for number in head.classes)
    way = "without its group" if suggester.has_groups else "without itself"
    counts = Counter(names[numbers[number]] for number in labels.values())
    training = TrainingSpec(
        source=source,
        counts={one: {"train": counts[one]} for one in names},
        group_column=group_column,
    )
    described = SuggestedModel(
        name=name,
        backbone=backbone,
        classes=names,
        training=training,
        evaluations=_evaluations(
            predicted, truth, calibration.temperature, way, suggester, estimate
        ),
        temperature=calibration.temperature,
        unsure_threshold=calibration.unsure_threshold,
        prediction_sets=prediction_sets_of(calibration),
        limits=_limits(len(labels), suggester.has_groups),
    )
    return described, head


def known_images(features: NDArray[np.float32], groups: Sequence[str] | None) -> Unlikeness | None:
    """Learn from the labelled images what is usual; None where they are too few or too alike.

    The network was fitted to none of them, so that each group is left out in turn, or each image
    where there are not two groups. `features`: shape (N, F). `groups`: of each; empty for none.
    """
    named = groups is not None and len(set(groups)) > 1
    keys = [one or f"image {row}" for row, one in enumerate(groups or ())] if named else None
    try:
        return Unlikeness.fit(features, keys)
    except InputError:
        return None


def write_request(
    folder: Path,
    described: SuggestedModel,
    head: Head,
    seen: SeenImages,
    unlikeness: Unlikeness | None = None,
) -> None:
    """Write down what the child process makes a bundle of."""
    if unlikeness is not None:
        (folder / KNOWN).write_bytes(dump_weights(unlikeness.to_arrays()))
    (folder / REQUEST).write_text(described.model_dump_json(), encoding="utf-8")
    np.savez(folder / HEAD, kernel=head.kernel, bias=head.bias)
    lines = sorted(f"{image} {split}" for image, split in seen.splits.items())
    (folder / SEEN).write_text("\n".join(lines), encoding="ascii")


def read_request(folder: Path) -> tuple[SuggestedModel, Head, SeenImages, Unlikeness | None]:
    """Read what was asked for."""
    asked = SuggestedModel.model_validate_json((folder / REQUEST).read_text(encoding="utf-8"))
    with np.load(folder / HEAD, allow_pickle=False) as arrays:
        head = Head(arrays["kernel"], arrays["bias"], tuple(range(len(asked.classes))))
    lines = (folder / SEEN).read_text(encoding="ascii").splitlines()
    seen = SeenImages(dict(line.split() for line in lines))
    unlikeness = None
    if (folder / KNOWN).exists():
        unlikeness = Unlikeness.from_arrays(parse_weights((folder / KNOWN).read_bytes(), KNOWN))
    return asked, head, seen, unlikeness


def _evaluations(
    predicted: NDArray[np.float32],
    truth: NDArray[np.int64],
    temperature: float,
    way: str,
    suggester: Suggester,
    estimate: Estimate | None,
) -> tuple[EvaluationSpec, ...]:
    role = "leave-one-group-out" if suggester.has_groups else "validation"
    outcomes = Outcomes(apply_temperature(predicted, temperature), truth)
    found = [
        EvaluationSpec(
            name=f"labelled images, cross-validated: each predicted {way}",
            role=role,
            n=len(truth),
            metrics={name: METRICS.get(name).compute(outcomes) for name in _METRICS},
        )
    ]
    if estimate is not None:
        metrics = {
            "accuracy": estimate.accuracy,
            "accuracy_low": estimate.low,
            "accuracy_high": estimate.high,
        }
        name = f"labelled images that were drawn at random: each predicted {way}"
        found.insert(
            0,
            EvaluationSpec(name=name, role=role, n=estimate.n_images, metrics=metrics),
        )
    return tuple(found)


def _limits(n_labels: int, has_groups: bool) -> tuple[str, ...]:
    said = [
        f"It was fitted to {n_labels} labelled images on a network that was not trained on them; "
        "train properly for more accuracy.",
        "Most of these images were chosen for being difficult, so that the accuracy on all of "
        "them is lower than on new ones.",
    ]
    if not has_groups:
        said.append(
            "Nothing was known of which images belong together, so that images of a new batch may "
            "do worse."
        )
    return tuple(said)
