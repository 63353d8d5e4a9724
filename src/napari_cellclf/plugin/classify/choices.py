"""Which layers make up which image, decided from plain descriptions: no napari, no Qt."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.foreign_arrays import AXIS_LETTERS, fill_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Placing:
    """Where the pixels of a layer are in the world: ``world = origin + matrix @ data``."""

    origin: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.origin)

    def last(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return origin and matrix along the last axes."""
        return np.array(self.origin)[-count:], np.array(self.matrix)[-count:, -count:]

    def same_plane(self, other: Placing) -> bool:
        """Whether Y and X are the same pixels of the world."""
        return all(
            np.allclose(one, two, rtol=1e-5, atol=1e-6 * abs(self.last(2)[1]).max())
            for one, two in zip(self.last(2), other.last(2), strict=True)
        )


def identity_placing(ndim: int) -> Placing:
    """Return the placing of a layer that was not moved or scaled."""
    return Placing((0.0,) * ndim, tuple(tuple(row) for row in np.eye(ndim).tolist()))


@dataclass(frozen=True)
class LayerInfo:
    """What has to be known of an image layer to decide about it."""

    #: The layer's identity.
    key: Hashable
    #: Its name in the layer list.
    name: str
    #: Of its data at full resolution, with the samples of RGB.
    shape: tuple[int, ...]
    #: Whether the last axis holds samples of RGB.
    rgb: bool = False
    #: One for each axis but RGB samples; napari's own defaults are numbers.
    axis_labels: tuple[str, ...] = ()
    #: What this package's reader wrote, see `plugin.napari_layers`; empty for others.
    metadata: tuple[tuple[str, Any], ...] = ()
    #: The file that napari read the layer from.
    path: str | None = None
    #: How often its pixels have been replaced since it was opened.
    version: int = 0
    #: The files along its first axis, where napari opened a folder.
    files: tuple[str, ...] = ()
    #: Where its pixels are; None for a layer that was not moved or scaled.
    placed: Placing | None = None
    #: Height and width of a pixel in micrometres; None where the layer does not say.
    pixel_size: tuple[float, float] | None = None

    @property
    def placing(self) -> Placing:
        """Where its pixels are."""
        return self.placed or identity_placing(len(self.shape) - self.rgb)

    def known(self, name: str) -> Any:
        """Return an entry of the reader's metadata, None where there is none."""
        return dict(self.metadata).get(name)


def layer_axes(layer: LayerInfo) -> str:
    """Name the axes of a layer from its labels.

    Examples
    --------
    >>> layer_axes(LayerInfo(1, "a", (5, 3, 64, 64), axis_labels=("time", "c", "y", "x")))
    'TCYX'
    >>> layer_axes(LayerInfo(1, "a", (5, 64, 64), axis_labels=("-3", "-2", "-1")))
    'IYX'
    """
    return fill_axes(known_letters(layer))


def known_letters(layer: LayerInfo) -> list[str]:
    """Name those axes of a layer of which something is known."""
    known = layer.known("axes")
    n_axes = len(layer.shape) - layer.rgb
    if known and len(known) == n_axes:
        return [*known, *("S" * layer.rgb)]
    labels = layer.axis_labels if len(layer.axis_labels) == n_axes else ("",) * n_axes
    letters: list[str] = []
    for label in labels[:-2]:
        letter = AXIS_LETTERS.get(label.strip().lower(), "")
        taken = letter in (*letters, "Y", "X", "S") or (letter == "C" and layer.rgb)
        letters.append("" if taken else letter)
    return [*letters, "Y", "X", *("S" * layer.rgb)]


@dataclass(frozen=True)
class ImageChoice:
    """Layers that are one image."""

    #: What the user is shown.
    title: str
    #: One for each channel, or a single one that holds them all.
    layers: tuple[LayerInfo, ...]
    #: Letters of each layer's axes, with ``C`` or ``S`` if a single layer holds the channels.
    axes: str
    #: What each channel is called, all different.
    channels: tuple[str, ...]
    #: The file or folder that a command line could be given instead.
    path: str | None = None
    #: Why these layers cannot be used; empty if they can.
    problem: str = ""

    @property
    def leading(self) -> tuple[int, ...]:
        """Indices of a layer's axes along which there are planes."""
        return tuple(i for i, letter in enumerate(self.axes) if letter not in "CSYX")

    @property
    def planes(self) -> tuple[int, ...]:
        """Number of planes along each leading axis; empty for a single image."""
        return tuple(self.layers[0].shape[i] for i in self.leading)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels for matching; empty strings where they have none of their own."""
        if len(self.layers) == 1 and "C" in self.axes:
            return ("",) * len(self.channels)
        if len(self.layers) == 1 and "S" not in self.axes and not self.named_by_reader:
            # What a single layer is called says which image it is, not which stain.
            return ("",)
        return self.channels

    @property
    def named_by_reader(self) -> bool:
        """Whether the channels are called as reading the file elsewhere would call them."""
        return all(layer.known("channel") for layer in self.layers)

    @property
    def keys(self) -> frozenset[Hashable]:
        """Identities of the layers."""
        return frozenset(layer.key for layer in self.layers)

    def fed_by(self, channel: int) -> Hashable:
        """Identify the pixels of a channel; others where the layer's data was replaced."""
        layer = self.layers[channel if len(self.layers) > 1 else 0]
        return layer.key, layer.version, None if len(self.layers) > 1 else channel

    @property
    def files(self) -> tuple[str, ...]:
        """The files along the first leading axis; empty where that is not known."""
        return self.layers[0].files if self.leading[:1] == (0,) else ()

    @property
    def candidate_axes(self) -> tuple[int, ...]:
        """Axes that the user may declare to be the channels; empty if there is no question."""
        if len(self.layers) != 1 or self.layers[0].rgb or self.layers[0].known("axes"):
            return ()
        return tuple(range(len(self.layers[0].shape) - 2))


def list_choices(
    layers: Sequence[LayerInfo], selected: Collection[Hashable], n_channels: int = 1
) -> tuple[list[ImageChoice], int]:
    """List the images that the layers make up, and say which of them is meant.

    Layers that one file or folder was read into belong together. One selected layer means its whole
    image; several selected layers mean exactly those.
    """
    groups: dict[Hashable, list[LayerInfo]] = {}
    for layer in layers:
        groups.setdefault(_group(layer), []).append(layer)
    choices = _told_apart([_choice(group, n_channels) for group in reversed(groups.values())])
    loose = [group[0] for group in groups.values() if len(group) == 1 and not group[0].rgb]
    chosen = [layer for layer in layers if layer.key in selected]
    extra = _selection(chosen, choices, n_channels)
    if extra is not None:
        choices.insert(0, extra)
        return choices, 0
    if len(loose) > 1 and len({layer.shape for layer in loose}) == 1:
        together = _choice(loose, n_channels)
        title = f"all {len(loose)} single layers together"
        choices.append(replace(together, title=title, path=None))
        if len(loose) == n_channels and not together.problem and _only_of(chosen, loose):
            # One of them alone cannot be what such a model takes.
            return choices, len(choices) - 1
    return choices, _index_of(chosen, choices)


def _only_of(chosen: Sequence[LayerInfo], loose: Sequence[LayerInfo]) -> bool:
    """Whether nothing is selected, or nothing but a loose layer of a single channel."""
    return all(layer in loose and "C" not in layer_axes(layer) for layer in chosen)


def _told_apart(choices: Sequence[ImageChoice]) -> list[ImageChoice]:
    """Add to titles that several images have the folders that differ."""
    told = []
    for choice in choices:
        others = [one for one in choices if one.title == choice.title and one is not choice]
        if not others or choice.path is None:
            told.append(choice)
            continue
        places = [_folders(one.path) for one in others if one.path is not None]
        own = _folders(choice.path)
        depth = next(
            (n for n in range(1, len(own) + 1) if all(own[-n:] != one[-n:] for one in places)),
            1,
        )
        told.append(replace(choice, title=f"{choice.title} ({'/'.join(own[-depth:])})"))
    return told


def _folders(path: str) -> list[str]:
    """Split the folder that a path lies in."""
    return [part for part in re.split(r"[/\\]", path)[:-1] if part]


def with_channel_axis(choice: ImageChoice, axis: int | None) -> ImageChoice:
    """Declare which axis of a single layer holds the channels."""
    layer = choice.layers[0]
    letters = known_letters(layer)
    letters = ["" if letter == "C" else letter for letter in letters]
    if axis is not None:
        letters[axis] = "C"
    axes = fill_axes(letters)
    return replace(choice, axes=axes, channels=_channels((layer,), axes))


def _group(layer: LayerInfo) -> Hashable:
    group = layer.known("group")
    if group is not None:
        return "group", group
    return ("path", layer.path, layer.shape) if layer.path else ("layer", layer.key)


def _selection(
    chosen: list[LayerInfo], choices: list[ImageChoice], n_channels: int
) -> ImageChoice | None:
    """Return the selected layers as an image, if they are not one of those listed already."""
    keys = frozenset(layer.key for layer in chosen)
    if len(chosen) < 2 or any(choice.keys == keys for choice in choices):
        return None
    choice = _choice(chosen, n_channels)
    return replace(choice, title=f"{len(chosen)} selected layers", path=None)


def _index_of(chosen: list[LayerInfo], choices: list[ImageChoice]) -> int:
    if not choices:
        return -1
    if not chosen:
        return 0
    keys = {layer.key for layer in chosen}
    return next((i for i, choice in enumerate(choices) if keys <= choice.keys), 0)


def _choice(group: Sequence[LayerInfo], n_channels: int) -> ImageChoice:
    first = group[0]
    path = first.known("path") or first.path
    title = first.known("title") or first.name
    if len(group) > 1:
        axes = layer_axes(first)
        choice = ImageChoice(title, tuple(group), axes, _channels(group, axes), path)
        return replace(choice, problem=_why_not_together(group))
    choice = ImageChoice(title, (first,), layer_axes(first), (), path)
    choice = replace(choice, channels=_channels((first,), choice.axes))
    # An axis that is called depth or time is not the channels, however long it is.
    unnamed = [i for i in choice.candidate_axes if not known_letters(first)[i]]
    guess = [i for i in unnamed if first.shape[i] == n_channels > 1]
    if "C" not in choice.axes and len(guess) == 1:
        return with_channel_axis(choice, guess[0])
    return choice


def _why_not_together(group: Sequence[LayerInfo]) -> str:
    holders = [layer.name for layer in group if set(layer_axes(layer)) & set("CS")]
    if holders:
        return (
            f"“{holders[0]}” holds several channels by itself and cannot be one channel among "
            "others; select it alone."
        )
    shapes = {layer.shape for layer in group}
    if len(shapes) > 1:
        sizes = " and ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        return f"the selected layers differ in size ({sizes}); select the layers of one image."
    return ""


def _channels(group: Sequence[LayerInfo], axes: str) -> tuple[str, ...]:
    if len(group) == 1 and "S" in axes:
        return ("red", "green", "blue", "alpha")[: group[0].shape[-1]]
    if len(group) == 1 and "C" in axes:
        return tuple(f"channel {i}" for i in range(group[0].shape[axes.index("C")]))
    names = [str(layer.known("channel") or layer.name) for layer in group]
    if len(set(names)) < len(names):
        names = [layer.name for layer in group]
    return tuple(names)
