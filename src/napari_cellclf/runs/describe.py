"""What a run says of itself in its model card and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from napari_cellclf.core.counting import counted
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.reports.evaluate import leak_warnings

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.runs.folder import RunSpec


Hashes: TypeAlias = Mapping[str, Sequence[Sequence[str]]]


def warnings_of(dataset: Dataset, hashes: Hashes = MappingProxyType({})) -> list[tuple[str, str]]:
    """List what a reader of the report must know before the metrics.

    `hashes`: those of each image of each split (`pixel_hashes`), as far as they are known.
    """
    found = [*leak_warnings(dataset), *_copy_warnings(hashes)]
    if dataset.group_column is None:
        found.append(
            (
                "warning",
                "The split is random: nothing is known of which images belong together (a plate, "
                "an embryo), so that images from a new batch may do worse than these.",
            )
        )
    if not len(dataset.test):
        found.append(
            (
                "warning",
                "Nothing was held out for a test; the validation images chose the weights, so that "
                "their metrics are a little too good.",
            )
        )
    return found


def _copy_warnings(hashes: Hashes) -> list[tuple[str, str]]:
    trained = {one for image in hashes.get("train", ()) for one in image}
    copies = {
        split: sum(not trained.isdisjoint(image) for image in hashes.get(split, ()))
        for split in SPLITS[1:]
    }
    return [
        (
            "error",
            f"{count:,} of {counted(len(hashes[split]), f'{split} image')} "
            f"{'has' if count == 1 else 'have'} exactly the pixels of training images, so "
            "that the model looks better than it is; remove one of each two.",
        )
        for split, count in copies.items()
        if count
    ]


def limits_of(dataset: Dataset, hashes: Hashes = MappingProxyType({})) -> tuple[str, ...]:
    """List what a model cannot do, for its card."""
    train = dataset.train
    grouped = ""
    if dataset.group_column is not None:
        grouped = f" from {counted(len(set(train.groups)), 'group')} ({dataset.group_column})"
    limits = [
        f"It knows {counted(len(dataset.classes), 'class')} and predicts one of them whatever the "
        "image "
        "shows.",
        f"It was trained on {counted(len(train), train.noun)}{grouped}; other microscopes, stains "
        "and cells "
        "were not tested.",
    ]
    if set(dataset.table.get("dataset", ())) == {"simulated"}:
        limits.append("It was trained on simulated images and knows nothing of real cells.")
    limits += [sentence for _, sentence in warnings_of(dataset, hashes)]
    return tuple(limits)


def facts_of(
    spec: RunSpec,
    dataset: Dataset,
    preprocessing: Preprocessing,
    device: str,
    fine_tuning: str = "",
    unlabelled: int = 0,
) -> dict[str, str]:
    """List what a report says of a run beside its metrics."""
    config = spec.config
    size = preprocessing.size
    return {
        "data": dataset.source,
        "kept together": dataset.group_column or "nothing (random split)",
        "architecture": config.architecture,
        "first weights": config.continue_from or config.weights or "random",
        **({"weights kept": fine_tuning} if fine_tuning else {}),
        **(
            {"images without labels": f"{unlabelled:,}, used by {config.semi_supervised}"}
            if unlabelled
            else {}
        ),
        "channels": ", ".join(channel.name for channel in preprocessing.channels),
        **(
            {} if preprocessing.object_crop is None else {"objects": preprocessing.object_crop.text}
        ),
        **({} if preprocessing.centre == 1 else {"middle": f"{100 * preprocessing.centre:g} %"}),
        "size": "each image's own" if size is None else f"{size[0]} x {size[1]} pixels",
        "normalisation": preprocessing.normalization.kind,
        "preset": spec.preset or "none",
        "seed": str(config.seed),
        "reproducible": "yes" if config.reproducible else "no",
        "device": device,
        "started": spec.created,
        **({"changed since": "yes, settings or images, by hand"} if spec.changes_accepted else {}),
        "software": ", ".join(f"{name} {number}" for name, number in spec.versions.items()),
    }
