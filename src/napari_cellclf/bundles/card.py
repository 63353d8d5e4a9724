"""Cards for people: of a model, and of what a list of models offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from napari_cellclf.bundles.catalogue import is_here, place_of
from napari_cellclf.bundles.schema import (
    BackboneSpec,
    BundleSpec,
    EvaluationSpec,
    PredictionSetSpec,
    TrainingSpec,
    UnlikeSpec,
)
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.counting import counted
from napari_cellclf.core.unlikeness import LEVEL

if TYPE_CHECKING:
    from napari_cellclf.bundles.model_lists import RegistryEntry

_ROLES = {
    "train": "images it was trained on",
    "validation": "images used to choose the model",
    "test": "images kept apart until the end",
    "leave-one-group-out": "each group in turn kept apart from training",
}

#: Metrics whose name holds one of these lie between 0 and 1 and are read as percentages.
_SHARES = ("accuracy", "confidence", "calibration error")


def model_card(spec: BundleSpec) -> str:
    """Write the model card of a bundle."""
    return "\n".join(_lines(spec)).rstrip() + "\n"


def entry_card(entry: RegistryEntry) -> str:
    """Write the card of an entry."""
    return "\n".join(_entry_lines(entry)).rstrip() + "\n"


def size_in_words(entry: RegistryEntry) -> str:
    """Write how large an entry's file is."""
    about = "" if entry.size_is_exact else "about "
    return f"{about}{entry.size_bytes / 1e6:.1f} MB"


def _lines(spec: BundleSpec) -> Iterator[str]:
    yield from (f"# {spec.title or spec.name}", "")
    if spec.description:
        yield from (spec.description, "")
    yield from _input(spec)
    yield from ("## Classes", "", *map(_class_line, spec.classes), "")
    yield from ("## Unlike training", "", _unlike(spec.unlike), "")
    yield from _training(spec.training)
    yield from _evaluations(spec)
    yield from ("## Limits", "")
    yield from (f"- {_one_line(limit)}" for limit in spec.limits or ("None are stated.",))
    yield from ("", "## Licence and citation", "")
    yield from (f"Weights: {_sentence(spec.licence or 'not stated')}", "")
    yield from (spec.citation, "")


def _input(spec: BundleSpec) -> Iterator[str]:
    preprocessing = spec.input.preprocessing
    size = preprocessing.size
    smallest = spec.input.minimum_size
    yield from (
        "## What it looks at",
        "",
        "| channel | also known as | required |",
        "|---|---|---|",
    )
    for channel in preprocessing.channels:
        required = "yes" if channel.required else "no"
        yield _row((channel.name, ", ".join(channel.aliases), required))
    yield ""
    if spec.input.single_channel is not None:
        yield f"A server takes a lone grey image without a name as {spec.input.single_channel}."
    if preprocessing.object_crop is not None:
        yield f"It classifies objects. Of each it looks at {preprocessing.object_crop.text}."
    if preprocessing.centre < 1:
        part = 100 * preprocessing.centre
        yield f"Of each image the middle is looked at, {part:g} % of its height and width."
    if size is not None:
        yield f"Every image is resized to {size[0]} x {size[1]} pixels (height x width)."
    elif smallest is not None:
        yield f"Images of any size from {smallest[0]} x {smallest[1]} pixels (height x width)."
    else:
        yield "Images of any size."
    yield from (f"Normalisation: {preprocessing.normalization.kind}.", "")
    yield from _network(spec)


def _network(spec: BundleSpec) -> Iterator[str]:
    if spec.backbone is not None:
        yield _backbone(spec.backbone, len(spec.input.channels))
    yield f"Network: {spec.architecture.name}" + (
        f", {spec.architecture.n_parameters:,} parameters."
        if spec.architecture.n_parameters is not None
        else "."
    )
    if spec.rounding is not None:
        yield (
            f"Computed in {spec.rounding.dtype}, no probability moved by more than "
            f"{spec.rounding.largest:.2g} on {spec.rounding.n} images."
        )
    if spec.architecture.pretrained:
        yield f"Its first weights came from {spec.architecture.pretrained}."
    yield ""


def _backbone(spec: BackboneSpec, channels: int) -> str:
    """Say which network it is built on, and that it is not in the bundle."""
    title = f" ({_one_line(spec.title)})" if spec.title else ""
    runs = spec.runs(channels)
    each = f" It sees one channel at a time, {runs} times for an image." if runs > 1 else ""
    source = f", from {_one_line(spec.source)}" if spec.source else ""
    return (
        f"It is a head on the backbone {spec.name}{title}, which is not in this bundle: an ONNX "
        f"file with the SHA-256 {spec.sha256}{source}.{each} Its licence: "
        f"{_sentence(spec.licence or 'not stated')}"
    )


def _unlike(spec: UnlikeSpec | None) -> str:
    """Say what is known of images that are unlike training."""
    if spec is None:
        return "It cannot say which images are unlike those it was trained on."
    images, level = counted(spec.n_images, "known image"), f"{100 * spec.level:.3g} %"
    if not spec.n_groups:
        left_out = "images that were left out"
    else:
        left_out = f"{counted(spec.n_groups, 'group')} left out"
    said = (
        f"An image is flagged as unlike training if its features are far from those of {images}. "
        f"By {left_out}, at most {level} of the images of the same kind are flagged."
    )
    if spec.level > LEVEL:
        said += " More groups would support a smaller fraction."
    return said


def _class_line(spec: ClassSpec) -> str:
    value = "" if spec.value is None else f" = {spec.value:g} {spec.unit or ''}".rstrip()
    title = "" if spec.title == spec.name else f": {_one_line(spec.title)}"
    return f"- `{spec.name}`{title}{value}"


def _training(training: TrainingSpec) -> Iterator[str]:
    yield from ("## What it was trained on", "")
    yield from (_sentence(training.source or "Not stated"), "")
    if training.licence:
        yield from (f"Licence of the data: {_sentence(training.licence)}", "")
    splits = sorted({split for counts in training.counts.values() for split in counts})
    if splits:
        yield from (_row(("class", *splits)), _row(("---",) * (len(splits) + 1)))
        for name, counts in training.counts.items():
            yield _row((name, *(str(counts.get(split, 0)) for split in splits)))
        yield ""
    if training.group_column:
        yield from (f"Images of the same {training.group_column} stayed together.", "")


def _evaluations(spec: BundleSpec) -> Iterator[str]:
    yield from ("## How well it does", "")
    if not spec.evaluations:
        yield from ("Not measured.", "")
        return
    roles = dict.fromkeys(evaluation.role for evaluation in spec.evaluations)
    for role in roles:
        yield from _evaluation_table([e for e in spec.evaluations if e.role == role])
    if spec.temperature != 1:
        how = "softened" if spec.temperature > 1 else "sharpened"
        yield from (f"Probabilities are {how} by a temperature of {spec.temperature:.3g}.", "")
    if spec.class_offsets:
        yield (
            "Classes were balanced in training, which makes a network too sure of rare ones. Its "
            "probabilities are corrected for the frequencies of the validation images; where "
            "classes are more or less frequent, they are off."
        )
        yield ""
    if spec.unsure_threshold is not None:
        advised = f"{100 * spec.unsure_threshold:.0f} %"
        yield (
            f"Advice: read an answer below {advised} confidence as unsure. The threshold is stored "
            "with the model; predictions name the likeliest class all the same."
        )
        yield ""
    if spec.prediction_sets is not None:
        yield from (_prediction_sets(spec.prediction_sets), "")


def _prediction_sets(sets: PredictionSetSpec) -> str:
    promised = f"{100 * sets.coverage:.0f} %"
    if not sets.threshold:
        return (
            f"Prediction sets hold all classes: with so few validation images, nothing less would "
            f"hold the true class of {promised} of new images."
        )
    return (
        f"Prediction sets hold the classes of at least {100 * sets.threshold:.3g} % probability, "
        f"and always the likeliest: so they hold the true class of {promised} of images that are "
        "like the validation images."
    )


def _evaluation_table(evaluations: Sequence[EvaluationSpec]) -> Iterator[str]:
    """Write the evaluations on data of one kind, a column for each metric."""
    metrics = list(dict.fromkeys(key for e in evaluations for key in e.metrics))
    yield from (f"On {_ROLES[evaluations[0].role]}:", "")
    yield from (_row(("on", "images", *metrics)), _row(("---",) * (2 + len(metrics))))
    for evaluation in evaluations:
        values = evaluation.metrics
        cells = (_number(key, values[key]) if key in values else "" for key in metrics)
        yield _row((evaluation.name, str(evaluation.n), *cells))
    yield ""


def _number(metric: str, value: float) -> str:
    is_share = any(word in metric for word in _SHARES)
    return f"{100 * value:.1f} %" if is_share else f"{value:.3g}"


def _sentence(text: str) -> str:
    return text.rstrip().removesuffix(".") + "."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _entry_lines(entry: RegistryEntry) -> Iterator[str]:
    yield from (f"# {entry.title}", "")
    if entry.description:
        yield from (entry.description, "")
    way = entry.way if entry.kind == "backbone" else f"cellclf models fetch {entry.name}"
    where = str(place_of(entry)) if is_here(entry) else f"not yet: {way}"
    yield from (f"On this computer: {where}", "")
    if entry.kind == "weights":
        yield from (f'For training {entry.architecture} with weights="imagenet".', "")
    elif entry.kind == "backbone":
        each = "one channel at a time" if entry.one_channel else "photographs, or one channel each"
        yield from (f"A frozen network for training a head on its features; it sees {each}.", "")
    else:
        yield from ("## What it looks at", "")
        yield from (f"- {channel}" for channel in entry.channel_names)
        yield from ("", "## Classes", "")
        yield from (f"- `{name}`" for name in entry.class_names)
        yield ""
    if entry.limits:
        yield from ("## Limits", "", *(f"- {limit}" for limit in entry.limits), "")
    yield from ("## File", "", size_in_words(entry), "")
    yield from (f"- {place}" for place in entry.places)
    reason = f" ({entry.md5_reason})" if entry.md5_reason else ""
    if entry.sha256 is None and entry.md5 is None:
        yield from (
            "",
            "No file is published with a checksum; it is recorded when you add one.",
            "",
        )
    else:
        yield from ("", f"{entry.checksum.title} {entry.checksum.digest}{reason}", "")
    yield from ("## Licence and citation", "", entry.licence, "", entry.citation)
