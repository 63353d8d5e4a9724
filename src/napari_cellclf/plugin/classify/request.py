"""What a click on *Classify* will do: decided before it is done, without napari or Qt."""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.channels import ChannelSpec, match_channels, missing_message
from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted
from napari_cellclf.core.objects import ObjectCrop
from napari_cellclf.errors import ChannelMismatchError, NameParseError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.naming import naming_text
from napari_cellclf.plugin.classify.choices import ImageChoice
from napari_cellclf.plugin.classify.objects import ObjectsChoice
from napari_cellclf.plugin.shared.messages import Refusal, sentence

if TYPE_CHECKING:
    from napari_cellclf.bundles.schema import PredictionSetSpec

#: For each channel of the model the index of the image's channel that feeds it.
Sources = tuple[int | None, ...]


@dataclass(frozen=True)
class ModelChoice:
    """What the form needs to know of a model, without loading it."""

    #: What `load_classifier` and the command line take: a bundled name or a path.
    reference: str
    #: What the user is shown.
    title: str
    #: What the model expects, in order.
    channels: tuple[ChannelSpec, ...]
    #: The classes it predicts.
    classes: tuple[str, ...]
    #: Whether `reference` is the address of a server that computes.
    is_remote: bool = False
    #: The secret that the server asks for.
    token: str | None = field(default=None, repr=False)
    #: Tells it from another model that had or gets the same name.
    fingerprint: str = field(default="", repr=False)
    #: How objects are cut out, for a model of objects; None for one of whole images.
    object_crop: ObjectCrop | None = None
    #: The channel that a lone image is taken for where its name says nothing.
    single_channel: str | None = None
    #: Which classes an image may be of; None for a model that cannot say.
    prediction_sets: PredictionSetSpec | None = None

    @property
    def summary(self) -> str:
        """One line for the form."""
        shown = ", ".join(self.classes[:6]) + (", …" if len(self.classes) > 6 else "")
        of = "" if self.object_crop is None else " of objects,"
        classes, channels = len(self.classes), len(self.channels)
        return f"{counted(classes, 'class')} ({shown}){of} from {counted(channels, 'channel')}"


@dataclass(frozen=True)
class Proposal:
    """A channel mapping that was filled in, and what is to be said about it."""

    #: For each channel of the model the index of the image's channel; None for none.
    sources: Sources
    #: Which channels are missing, or what a lone one is taken for; empty if neither is to be said.
    message: str = ""
    #: Whether names led to it.
    by_names: bool = True


@dataclass(frozen=True)
class ClassifyRequest:
    """Everything that one run needs."""

    #: With what to classify.
    model: ModelChoice
    #: The layers to classify.
    image: ImageChoice | None = None
    #: Or the folder (or table) whose images to classify.
    folder: str | None = None
    #: The channel mapping of `image`.
    sources: Sources = field(default=())
    #: The command line that does the same; empty if there is none.
    command: str = ""
    #: How the files in the folder are named; None for any installed scheme.
    naming: str | None = None
    #: A folder of masks for the images in the folder, or the mask of the only one; None where they
    #: lie beside their images, or a table names them.
    masks: str | None = None
    #: What the predictions belong to: they are shown while the form asks exactly this.
    question: Hashable = None
    #: The layer whose objects to classify, for a model of objects.
    objects: ObjectsChoice | None = None
    #: Or the rows that are open in the bench.
    collection: Collection | None = None

    @property
    def mapping(self) -> dict[str, str | None] | None:
        """The channel mapping by names; None for folders, where each image's names decide."""
        if self.image is None:
            return None
        names = [spec.name for spec in self.model.channels]
        chosen = [None if i is None else self.image.channels[i] for i in self.sources]
        return dict(zip(names, chosen, strict=True))


def layers_question(
    model: ModelChoice | None,
    image: ImageChoice | None,
    sources: Sources,
    objects: ObjectsChoice | None = None,
) -> Hashable:
    """Identify what the form asks about layers; None while it asks nothing."""
    if model is None or image is None or len(sources) != len(model.channels):
        return None
    fed = tuple(None if source is None else image.fed_by(source) for source in sources)
    return model, image.keys, image.axes, fed, None if objects is None else objects.key


def folder_question(
    model: ModelChoice | None, folder: str, naming: str | None, masks: str = ""
) -> Hashable:
    """Identify what the form asks about a folder; None while it asks nothing."""
    place = folder.strip()
    if model is None or not place:
        return None
    return model, str(expanded(place)), naming, _masks_of(model, masks)


def _masks_of(model: ModelChoice, masks: str) -> str | None:
    """Return where the masks of a folder's images are; None for beside them, or for no objects."""
    wanted = masks.strip() if model.object_crop is not None else ""
    return str(expanded(wanted)) if wanted else None


def propose_mapping(
    expected: Sequence[ChannelSpec], available: Sequence[str], single_channel: str | None = None
) -> Proposal:
    """Fill in a channel mapping from names.

    `single_channel`: what a lone channel is taken for if its name means none of the expected.

    Examples
    --------
    >>> dna, actin = ChannelSpec(name="DNA"), ChannelSpec(name="actin")
    >>> propose_mapping([dna, actin], ["dna", "GFP"]).sources
    (0, None)
    """
    try:
        found = match_channels(expected, available)
    except ChannelMismatchError as error:
        return Proposal(tuple(_find_one(spec, available) for spec in expected), f"{error}.")
    if single_channel is not None and len(available) == 1 and set(found.sources) == {None}:
        sources = tuple(0 if spec.name == single_channel else None for spec in expected)
        return Proposal(
            sources,
            "The image is one channel, and its name does not say which. It is taken as "
            f"{single_channel}, unless you choose another below Channels.",
            by_names=False,
        )
    missing = missing_message(expected, found)
    return Proposal(found.sources, f"{missing[0].upper()}{missing[1:]}." if missing else "")


def plan(
    model: ModelChoice | None,
    image: ImageChoice | None,
    sources: Sources,
    proposed: Sources,
    objects: ObjectsChoice | Refusal | None = None,
) -> ClassifyRequest | Refusal:
    """Decide what a click on *Classify* will do with layers.

    `proposed`: the mapping by names; the command line names only the channels that differ from it.
    `objects`: the layer of the objects, or why there is none; heeded for models of objects only.
    """
    if model is None:
        return Refusal("No model is chosen; choose one above.")
    if image is None:
        return Refusal(
            "No image is open; open one with File > Open, or try File > Open Sample > "
            "Cell Classifier."
        )
    if image.problem:
        return Refusal(image.problem[0].upper() + image.problem[1:])
    used = [source for source in sources if source is not None]
    lacking = [
        spec.name
        for spec, source in zip(model.channels, sources, strict=True)
        if spec.required and source is None
    ]
    if lacking or not used:
        names = ", ".join(lacking or [spec.name for spec in model.channels])
        return Refusal(f"The model needs {names}; {_way_to_channels(model, image)}.")
    if model.object_crop is None:
        objects = None
    elif not isinstance(objects, ObjectsChoice):
        return objects or Refusal("No objects are chosen; choose a layer of objects.")
    command = _layer_command(model, image, sources, proposed, objects)
    question = layers_question(model, image, sources, objects)
    return ClassifyRequest(
        model, image, sources=sources, objects=objects, command=command, question=question
    )


def _way_to_channels(model: ModelChoice, image: ImageChoice) -> str:
    wanted, there = len(model.channels), len(image.channels)
    if wanted == there > 1:
        return (
            "choose which channel of the image is which below Channels, or press Match in order "
            f"there if the {there} are in the model's order (of layers, the lowest is the first)"
        )
    if there == 1:
        return (
            f"select all {wanted} layers in the layer list with Shift or Ctrl, or open an image "
            "that holds them"
        )
    return "choose which channels of the image to use below Channels"


def used_twice(model: ModelChoice, image: ImageChoice, sources: Sources) -> str:
    """Say which channel of the image feeds several of the model's; empty if none does."""
    for source in dict.fromkeys(one for one in sources if one is not None):
        fed = [
            spec.name for spec, one in zip(model.channels, sources, strict=True) if one == source
        ]
        if len(fed) > 1:
            return (
                f"{image.channels[source]} is used for {' and '.join(fed)}; choose another "
                "channel for one of them, unless that is meant."
            )
    return ""


def plan_collection(
    model: ModelChoice | None, collection: Collection | None
) -> ClassifyRequest | Refusal:
    """Decide what a click on *Classify* will do with the rows that are open in the bench."""
    if model is None:
        return Refusal("No model is chosen; choose one above.")
    if collection is None or not len(collection):
        return Refusal("No images are open; open some on the tab Images.")
    if collection.has_objects and model.object_crop is None:
        return Refusal(
            "The rows are objects, but this model classifies whole images; choose a model of "
            "objects."
        )
    if not collection.has_objects and model.object_crop is not None:
        return Refusal(
            "This model classifies objects, but the rows are whole images; open the images with "
            "their masks on the tab Images."
        )
    return ClassifyRequest(model, collection=collection, question=(model, collection))


def plan_folder(
    model: ModelChoice | None, folder: str, naming: str | None = None, masks: str = ""
) -> ClassifyRequest | Refusal:
    """Decide what a click on *Classify* will do with a folder.

    `masks`: where its masks are, heeded for models of objects only; empty for beside the images.
    """
    if model is None:
        return Refusal("No model is chosen; choose one above.")
    if not folder.strip():
        return Refusal("No folder is chosen; choose one with Browse, or drop it on the field.")
    path = expanded(folder.strip())
    if not path.exists():
        return Refusal(f"There is nothing at {path}; choose a folder that exists.")
    place = _masks_of(model, masks)
    if place is not None and not Path(place).exists():
        return Refusal(f"There is nothing at {place}; choose masks that exist, or leave it empty.")
    try:
        chosen = naming_text(naming)
    except NameParseError as error:
        return Refusal(sentence(str(error)))
    return ClassifyRequest(
        model,
        folder=str(path),
        naming=chosen,
        masks=place,
        command=command_line(model, str(path), naming=chosen, objects=place),
        question=folder_question(model, folder, naming, masks),
    )


def command_line(
    model: ModelChoice,
    path: str,
    channels: Sequence[str] = (),
    naming: str | None = None,
    objects: str | None = None,
) -> str:
    """Return the command line that classifies a file or folder.

    Examples
    --------
    >>> command_line(ModelChoice("rxrx1-celltype", "", (), ()), "my plate")
    "cellclf predict rxrx1-celltype 'my plate' --out predictions.csv"
    """
    parts = ["cellclf", "predict", model.reference, path, "--out", "predictions.csv"]
    if model.token is not None:
        # A secret on a command line can be read by everybody on that computer.
        parts += ["--token-file", "token.txt"]
    if naming is not None:
        parts += ["--naming", naming]
    if objects is not None:
        parts += ["--objects", objects]
    return shlex.join([*parts, "--channels", *channels] if channels else parts)


def _layer_command(
    model: ModelChoice,
    image: ImageChoice,
    sources: Sources,
    proposed: Sources,
    objects: ObjectsChoice | None,
) -> str:
    if image.path is None or (objects is not None and objects.path is None):
        return ""
    changed = [
        f"{spec.name}={'' if source is None else image.channels[source]}"
        for spec, source, usual in zip(model.channels, sources, proposed, strict=True)
        if source != usual
    ]
    # By hand, the command line can only be told of channels that have names in the file itself.
    if changed and not image.named_by_reader:
        return ""
    naming = image.layers[0].known("naming")
    mask = None if objects is None else objects.path
    return command_line(model, image.path, changed, naming, mask)


def _find_one(spec: ChannelSpec, available: Sequence[str]) -> int | None:
    if len(available) < 2:
        return None
    try:
        return match_channels([spec], available).sources[0]
    except ChannelMismatchError:
        return None
