"""What to look at before training, in words."""

from __future__ import annotations

from collections.abc import Mapping

from napari_cellclf.core.dataset import SPLITS, Dataset
from napari_cellclf.core.dataset_files import Duplicates, FileFindings

# Class numbers that differ by this factor change what is learnt.
_IMBALANCE = 3.0
_FEW_IMAGES = 10
_FEW_GROUPS = 3
_MOST_NAMED = 5
#: Columns whose values differ in how the images were taken.
_BATCHES = ("experiment", "date", "donor", "animal", "plate", "slide", "movie")


def find_warnings(
    dataset: Dataset, files: FileFindings, counts: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Say in words what to look at before training."""
    found = [
        *_about_duplicates(files),
        *_about_groups(dataset),
        *_about_files(len(dataset), files),
        *_about_classes(counts),
        *_about_batches(dataset),
    ]
    return [sentence for sentence in found if sentence]


def _about_duplicates(files: FileFindings) -> list[str]:
    contradictory = [one for one in files.duplicates if one.contradictory]
    leaking = [one for one in files.duplicates if one.leaks]
    said = []
    if contradictory:
        one = contradictory[0]
        images = _number(len(contradictory), "image is", "images are")
        said.append(
            f"{images} labelled in two ways, such as {one.paths[0]} ({one.labels[0]}) and its copy "
            f"{_other(one)}: one of the labels is wrong"
        )
    if leaking:
        said.append(
            f"{_number(len(leaking), 'image has a copy', 'images have copies')} on the other side "
            f"of the split, such as {leaking[0].paths[0]}: the result would look better than it is"
        )
    if files.duplicates:
        n_copies = sum(len(one.paths) - 1 for one in files.duplicates)
        said.append(f"{_number(n_copies, 'file is a copy', 'files are copies')} of another one")
    return said


def _other(one: Duplicates) -> str:
    number = next(n for n, label in enumerate(one.labels) if label != one.labels[0])
    return f"{one.paths[number]} ({one.labels[number]})"


def _about_groups(dataset: Dataset) -> list[str]:
    leaks = dataset.leaks()
    if leaks:
        allowed = "LEAKAGE ALLOWED" if dataset.leakage_allowed else "LEAKAGE"
        named = ", ".join(leaks[:_MOST_NAMED]) + (", ..." if len(leaks) > _MOST_NAMED else "")
        return [
            f"{allowed}: {_number(len(leaks), 'group has', 'groups have')} images on both sides of "
            f"the split ({dataset.group_column}: {named}), so that the result will look better "
            "than it is"
        ]
    if dataset.group_column is None:
        return [dataset.group_reason]
    n_groups = len(set(dataset.groups))
    if n_groups < _FEW_GROUPS:
        return [
            f"there {'is only one group' if n_groups == 1 else f'are only {n_groups} groups'} of "
            f"{dataset.group_column}: what is measured on so few says little of others"
        ]
    return []


def _about_files(n_images: int, files: FileFindings) -> list[str]:
    said = []
    if files.unreadable:
        n_bad = len(files.unreadable)
        said.append(
            f"{_number(n_bad, 'image', 'images')} of {n_images} cannot be read: "
            f"{files.unreadable[0][1]}"
        )
    if files.multi_plane:
        path, axes = next(iter(files.multi_plane.items()))
        holding = _number(len(files.multi_plane), "file holds", "files hold")
        said.append(
            f"{holding} several planes, such as {path} ({axes}): save each plane that has a label "
            "as a file of its own"
        )
    if len(files.dtypes) > 1:
        said.append(
            f"the images are of different types ({_tally(files.dtypes)}): their brightness may not "
            "be on the same scale"
        )
    if len(files.channels) > 1:
        said.append(
            f"the images have different channels ({_tally(files.channels)}): only those that all "
            "have can be learnt from"
        )
    said.append(_odd_sizes(files.shapes))
    return said


def _odd_sizes(shapes: Mapping[str, int]) -> str:
    """Tell of the few images of another size; where sizes differ throughout, that is no news."""
    total = sum(shapes.values())
    if len(shapes) < 2 or max(shapes.values()) < 0.8 * total:
        return ""
    (common, number), *others = sorted(shapes.items(), key=lambda item: -item[1])
    return (
        f"{_number(total - number, 'image is', 'images are')} of another size than {common} "
        f"({_tally(dict(others))})"
    )


def _about_classes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    sizes = {name: sum(splits.values()) for name, splits in counts.items()}
    empty = [name for name, size in sizes.items() if not size]
    filled = {name: size for name, size in sizes.items() if size}
    said = []
    if empty:
        said.append(f"there is no image of {_names(empty)}")
    for split in SPLITS:
        # A split that has no image at all is no fault of a class.
        absent = [name for name in filled if not counts[name][split]]
        if 0 < len(absent) < len(filled):
            said.append(f"no {split} image of {_names(absent)}")
    few = [name for name, size in filled.items() if size < _FEW_IMAGES]
    if few:
        said.append(f"fewer than {_FEW_IMAGES} images of {_names(few)}")
    if len(filled) > 1:
        largest, smallest = max(filled, key=sizes.__getitem__), min(filled, key=sizes.__getitem__)
        ratio = sizes[largest] / sizes[smallest]
        if ratio >= _IMBALANCE:
            said.append(
                f"{largest} has {ratio:.3g} times as many images as {smallest}: weight the classes "
                "or show rare ones more often, and look at the balanced accuracy"
            )
    elif filled:
        said.append(f"there is only one class, {next(iter(filled))}: nothing can be told apart")
    return said


def _about_batches(dataset: Dataset) -> list[str]:
    for column in _BATCHES:
        if column not in dataset.table.columns:
            continue
        pairs = set(zip(dataset.table["label"], dataset.table[column], strict=True))
        labels, batches = {label for label, _ in pairs}, {batch for _, batch in pairs}
        if len(labels) > 1 and len(pairs) == len(labels) == len(batches):
            return [
                f"every class is of one {column} and every {column} of one class: what is learnt "
                f"may be the {column} (its light, its day) instead of the class"
            ]
    return []


def _number(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _names(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )


def _tally(numbers: Mapping[str, int]) -> str:
    return _names([f"{number} {name}" for name, number in numbers.items()])
