"""Somebody else's network: what its file says, and what only people can say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_cellclf.bundles.allowed_layers import words
from napari_cellclf.bundles.keras_file import KerasFile, Kind, read_keras_file
from napari_cellclf.bundles.networks import Parts
from napari_cellclf.bundles.paths import refuse_urls
from napari_cellclf.bundles.schema import NAME_PATTERN, Text
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.counting import counted
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import BundleError, InputError, ModelNotFoundError
from napari_cellclf.io.local_paths import expanded

#: Layers after which the numbers of classes and probabilities are still what they were.
_PASSING = words(
    "ActivityRegularization AlphaDropout Average Dropout Flatten GaussianDropout GaussianNoise "
    "GlobalAveragePooling2D Identity Mean Permute Reshape SpatialDropout2D"
)


class ForeignNetwork(BaseModel):
    """What a `.keras` file does not record, and a classifier cannot do without.

    Parameters
    ----------
    name : str
        What the model will be called: letters, digits, dots, dashes and underscores.
    classes : tuple of ClassSpec
        In the order of the network's output. Of a network with one output the first class is the
        one that 0 stands for.
    preprocessing : Preprocessing
        Channels in the network's order, the size it takes, and the normalisation it was trained
        with.
    title, description, licence, citation, source : str
        For its card; `source` says where it comes from.
    limits : tuple of str
        What it cannot do, one plain sentence each.

    Examples
    --------
    >>> described = ForeignNetwork(
    ...     name="cell-cycle", classes=[{"name": "G1"}, {"name": "G2"}],
    ...     preprocessing={"channels": [{"name": "DNA"}], "size": (100, 100)},
    ... )
    >>> described.class_names
    ('G1', 'G2')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    classes: tuple[ClassSpec, ...] = Field(min_length=2, max_length=10_000)
    preprocessing: Preprocessing
    title: str = Field(default="", max_length=200)
    description: Text = ""
    licence: Text = ""
    citation: Text = ""
    source: Text = ""
    limits: tuple[Annotated[str, Field(max_length=10_000)], ...] = ()

    @model_validator(mode="after")
    def _different_classes(self) -> ForeignNetwork:
        if len(set(self.class_names)) < len(self.classes):
            raise ValueError("two classes have the same name")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(one.name for one in self.classes)


@dataclass(frozen=True)
class ForeignFile:
    """What a network's file says of it, found without Keras.

    Parameters
    ----------
    path : Path
        The file.
    kind : {'Keras 3', 'Keras 2'}
        A zip as Keras 3 writes it, or an HDF5 file that Keras 2 wrote into a `.keras`.
    keras_version : str
        Which Keras wrote it, as far as it says.
    input_shape : tuple of (int or None)
        Height, width, channels; None where the size is open.
    n_outputs : int
        How many numbers it answers with.
    last_activation : str
        What they come out of, such as ``"softmax"``.
    n_parameters : int
        Number of numbers in its weights.
    n_layers : int
        Number of layers.
    """

    path: Path
    kind: Kind
    keras_version: str
    input_shape: tuple[int | None, int | None, int]
    n_outputs: int
    last_activation: str
    n_parameters: int
    n_layers: int

    @property
    def n_channels(self) -> int:
        """How many channels it takes."""
        return self.input_shape[2]

    @property
    def size(self) -> tuple[int, int] | None:
        """The height and width it takes, None if it takes any."""
        height, width, _ = self.input_shape
        return None if height is None or width is None else (height, width)

    @property
    def n_classes(self) -> int:
        """How many classes it tells apart: two, if one output says how far it is the second."""
        return 2 if self.is_single_sigmoid else self.n_outputs

    @property
    def is_single_sigmoid(self) -> bool:
        """Whether one output says how probable the second of two classes is."""
        return self.n_outputs == 1 and self.last_activation == "sigmoid"

    def __str__(self) -> str:
        shape = ", ".join("any" if side is None else str(side) for side in self.input_shape)
        return (
            f"{self.path.name} takes images of shape ({shape}) and has "
            f"{counted(self.n_outputs, 'output')}"
        )


def look_at(file: str | Path) -> ForeignFile:
    """Look at a network from elsewhere, statically: Keras does not see it.

    Parameters
    ----------
    file : str or Path
        A `.keras` file.

    Returns
    -------
    ForeignFile
        What it says of itself.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    BundleError
        If it is not complete, or no classifier of images.
    UnsafeModelError
        If it holds anything that is not a plain network with its weights, or is a model of a kind
        that may run code when it is opened.
    """
    refuse_urls(file)
    path = expanded(file)
    if not path.exists():
        raise ModelNotFoundError(f"there is no file {path}; check the path")
    found = _described(path, read_keras_file(path))
    _check_answer(found)
    return found


def check_description(found: ForeignFile, described: ForeignNetwork) -> None:
    """Hold what people say of a network against what its file says."""
    channels, size = described.preprocessing.channels, described.preprocessing.size
    if len(described.classes) != found.n_classes:
        raise InputError(
            f"{found}, so that it tells {counted(found.n_classes, 'class')} apart, but "
            f"{len(described.classes)} were named; name them in the order of its output"
        )
    if len(channels) != found.n_channels:
        raise InputError(
            f"{found.path.name} takes {counted(found.n_channels, 'channel')}, but "
            f"{counted(len(channels), 'was', 'were')} named; "
            "name them in the order it was trained with"
        )
    if found.size is not None and size != found.size:
        raise InputError(
            f"{found.path.name} takes images of {found.size[0]} x {found.size[1]} pixels, but the "
            f"preprocessing makes {'any size' if size is None else f'{size[0]} x {size[1]}'}; give "
            "the network's own size"
        )


def _described(path: Path, file: KerasFile) -> ForeignFile:
    shape = file.parts.input_shape
    n_outputs, activation = _end(file.parts)
    if len(shape) != 3 or shape[2] is None or n_outputs is None:
        raise BundleError(
            f"the network of {path.name} takes {shape} and ends in {activation!r}; a classifier of "
            "images takes height, width and channels, and answers with one number for each class"
        )
    return ForeignFile(
        path=path,
        kind=file.kind,
        keras_version=file.keras_version,
        input_shape=(shape[0], shape[1], shape[2]),
        n_outputs=n_outputs,
        last_activation=activation,
        n_parameters=file.n_weights,
        n_layers=file.parts.n_layers,
    )


def _end(parts: Parts) -> tuple[int | None, str]:
    """Find what the last layer with numbers of its own makes, and out of which activation.

    This is read off the configuration. When the network is built, Keras finds it again.
    """
    activation: str | None = None
    place = parts.end
    for _ in parts.layers:
        layer = parts.layers[place[0]]
        kind, config = layer["class_name"], layer["config"]
        if place[0] in parts.inner:
            inside, before = _end(parts.inner[place[0]])
            return inside, activation or before
        if activation is None and kind not in _PASSING:
            activation = _activation(kind, config, place == parts.end)
        if (size := config.get("units", config.get("filters"))) is not None:
            return size, activation or "linear"
        calls = parts.calls[place[0]]
        if place[1] >= len(calls):
            break
        place = calls[place[1]][0]
    return None, activation or "linear"


def _activation(kind: str, config: dict[str, Any], is_last: bool) -> str | None:
    if kind == "Activation" and config.get("activation") in (None, "linear"):
        return None
    if kind == "Softmax":
        # Along another axis than the last its numbers are no probabilities of classes.
        axis = config.get("axis", -1)
        return "softmax" if axis == -1 or (axis == 1 and is_last) else "linear"
    return str(config.get("activation") or "linear")


def _check_answer(found: ForeignFile) -> None:
    if found.is_single_sigmoid or (found.last_activation == "softmax" and found.n_outputs > 1):
        return
    if found.last_activation == "sigmoid":
        raise BundleError(
            f"{found}, each by a sigmoid of its own, so that an image may be of several classes or "
            "none; only networks that end in a softmax, or in one sigmoid, can be imported"
        )
    raise BundleError(
        f"{found}, which come out of {found.last_activation!r} and are no probabilities; where "
        "they are logits, add keras.layers.Softmax() as its last layer and save it again"
    )
