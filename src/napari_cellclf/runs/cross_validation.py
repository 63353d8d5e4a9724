"""One run for each part that is held out, and one report of them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.evaluation import Evaluation, pooled
from napari_cellclf.errors import DatasetError, RunError
from napari_cellclf.runs.create import create_run, load_dataset, with_absolute_paths
from napari_cellclf.runs.describe import facts_of, warnings_of
from napari_cellclf.runs.folder import RunFolder

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig

_FOLDS = "folds"


def create_folds(
    folds: Sequence[tuple[str, Dataset]],
    config: TrainingConfig,
    folder: str | Path,
    *,
    preset: str | None = None,
) -> list[Path]:
    """Write down one run for each fold, or find those that were begun before."""
    made = []
    config = with_absolute_paths(config)
    for number, (name, dataset) in enumerate(folds, start=1):
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "fold"
        path = Path(folder) / _FOLDS / f"{number:02d}-{safe}"[:80]
        run = RunFolder(path)
        if run.is_run:
            spec = run.spec()
            if spec.requested != config or spec.manifest_sha256 != dataset.sha256:
                raise RunError(
                    f"{path} was begun with other images or settings; choose another --out"
                )
        else:
            run = create_run(dataset, config, path, preset=preset)
        made.append(run.path)
    return made


def report_folds(folder: str | Path, role: str) -> Evaluation:
    """Put the answers to all held-out images together, and write one report."""
    from napari_cellclf.inference.load import load_classifier
    from napari_cellclf.io.rows import RowReader
    from napari_cellclf.reports.evaluate import evaluate
    from napari_cellclf.reports.report import write_report

    parts: list[Evaluation] = []
    counted: set[str] = set()
    runs = [RunFolder(path) for path in sorted((Path(folder) / _FOLDS).iterdir())]
    for run in runs:
        dataset = load_dataset(run)
        classifier = load_classifier(run.bundle)
        # The test images of a model that is continued are those of every fold; each counts once.
        held_out = dataset.test.subset([name not in counted for name in dataset.test.ids])
        counted.update(held_out.ids)
        if len(held_out):
            name = f"held out: {run.path.name}"
            parts.append(evaluate(classifier, held_out, name=name, role=role))
    if not parts:
        raise DatasetError(
            "no fold has an image that the continued model was not trained on; leave out "
            "--continue-from, or add images"
        )
    together = pooled(parts, name="all held-out images", role=role)
    spec, dataset = runs[0].spec(), load_dataset(runs[0])
    device = str(classifier.bundle.spec.training.device)
    facts = facts_of(spec, dataset, classifier.preprocessing, device)
    write_report(
        Path(folder) / "report",
        [together, *parts],
        title=f"{Path(folder).name}: {len(parts)} folds",
        read=RowReader(dataset, classifier.preprocessing.object_crop),
        warnings=warnings_of(dataset),
        facts=facts,
    )
    return together
