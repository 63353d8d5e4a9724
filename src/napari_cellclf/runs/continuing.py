"""Continue a model without testing it on what it has seen before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.core.progress import OnProgress, ShouldStop
from napari_cellclf.core.seen_images import keep_sides
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.io.prepared import items_of, prepare_images

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.runs.folder import RunSpec


def keep_old_sides(
    spec: RunSpec,
    dataset: Dataset,
    *,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> tuple[Dataset, str]:
    """Leave every image that the continued model knows on the side of the split where it was.

    Images are known by their pixels, wherever they lie now. Returns the images as they are trained
    on, `dataset` itself where nothing moves, and a sentence that says what was changed.
    """
    if spec.config.continue_from is None:
        return dataset, ""
    bundle = ModelBundle.load(find_model(spec.config.continue_from))
    seen = bundle.seen_images()
    if not seen.splits:
        return dataset, (
            f"{bundle.spec.name} does not say which images it was trained on, so that some of them "
            "may be among the test images"
        )
    prepared = prepare_images(
        items_of(dataset),
        bundle.spec.input.preprocessing,
        frame=spec.config.rotation_frame,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    before = [seen.split_of(note.split()) for note in prepared.notes]
    given = dataset.table["split"].tolist()
    # Where one group may be on both sides, only the image itself is known.
    groups = [""] * len(given) if dataset.leakage_allowed else dataset.groups.tolist()
    splits = keep_sides(given, groups, before)
    moved = Counter(new for old, new in zip(given, splits, strict=True) if old != new)
    if not moved:
        return dataset, ""
    dataset = dataset.with_splits(splits)
    counted = ", ".join(f"{count} to {split}" for split, count in sorted(moved.items()))
    return dataset, (
        f"{bundle.spec.name} has seen {sum(map(bool, before))} of these images; they and their "
        f"groups are on the side of the split that they were on then ({counted})"
        f"{_exceptions(given, splits, before)}"
    )


def _exceptions(given: Sequence[str], splits: Sequence[str], before: Sequence[str]) -> str:
    crossed = sum(bool(old) and new != old for new, old in zip(splits, before, strict=True))
    said = f"; {crossed} were on another side and follow their groups" if crossed else ""
    lost = [split for split in SPLITS if split in given and split not in splits]
    if lost:
        said += f"; none is left for {' and '.join(lost)}: add images of groups that it never saw"
    return said
