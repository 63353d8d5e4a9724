"""From what users hand over to one prepared array for each plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.channels import taken_in_order
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import AxesError, ImageError, InputError, UnreadableImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import BundleSpec

TOO_LARGE = "needs more memory than is free; give a smaller image, or close other programs"
_RGB = ("red", "green", "blue")
#: Where the readers of stacks put what is known of each plane, and along which axis it goes.
_PLANE_ROWS = (("P", "sites"), ("T", "frames"))


@dataclass(frozen=True)
class BadImage:
    """An image that could not be classified."""

    #: Which one.
    id: str
    #: One sentence.
    reason: str
    #: What was raised.
    error: InputError = field(default_factory=InputError, repr=False, compare=False)
    #: How many steps of progress end with it.
    finishes: int = field(default=1, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of pixels: none."""
        return 0


@dataclass(frozen=True)
class Row:
    """One plane, prepared for the network."""

    #: Which one.
    id: str
    #: What its file or its name says.
    metadata: Mapping[str, Any]
    #: The network's input.
    pixels: NDArray[np.float32]
    #: How many steps of progress end with it.
    finishes: int
    #: The image whose channels have no names and were taken in their order, if this is one.
    by_order: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of pixels."""
        return self.pixels.nbytes


@dataclass(frozen=True)
class Item:
    """One thing to classify, not read yet."""

    #: Its name; planes add their position.
    id: str
    #: Gives the image.
    read: Callable[[], Image]
    #: What the names say; None takes it from the image.
    metadata: Mapping[str, Any] | None = None
    #: Whether every plane is a step of progress, or only the whole.
    count_planes: bool = False


def prepared_rows(
    item: Item, spec: BundleSpec, mapping: Mapping[str, str | None] | None
) -> Iterator[Row | BadImage]:
    """Read an image and prepare its planes one after the other."""
    image = read_item(item)
    if isinstance(image, BadImage):
        yield image
        return
    for number, (index, plane) in enumerate(image.planes()):
        last = finishes(item, image, number)
        yield prepare_plane(item, image, index, plane, spec, mapping, last)


def read_item(item: Item) -> Image | BadImage:
    """Read an image."""
    try:
        return item.read()
    except (InputError, OSError) as error:
        return _bad(item.id, error, 1)


def finishes(item: Item, image: Image, number: int) -> int:
    """Return how many steps of progress end with a plane."""
    return int(item.count_planes or number == image.n_planes - 1)


def prepare_plane(
    item: Item,
    image: Image,
    index: Mapping[str, int],
    plane: Image,
    spec: BundleSpec,
    mapping: Mapping[str, str | None] | None,
    finishes: int,
) -> Row | BadImage:
    """Prepare a plane for the network.

    `index`, `plane`: position and pixels, from `Image.planes`.
    """
    name = item.id + _position(index)
    preprocessing = spec.input.preprocessing
    try:
        # In one piece of memory, so that batches are put together fast.
        pixels = np.ascontiguousarray(preprocessing(plane, mapping))
        _check_size(pixels, spec)
    except (InputError, OSError) as error:
        return _bad(name, error, finishes)
    expected = preprocessing.channels
    by_order = not mapping and len(expected) > 1 and taken_in_order(expected, image.channels)
    known = _metadata(item, image, index)
    return Row(name, known, pixels, finishes, item.id if by_order else None)


def distinct(items: Sequence[Item]) -> list[Item]:
    """Give things of one name names of their own, so that their rows can be told apart."""
    taken = {item.id for item in items}
    seen: Counter[str] = Counter()
    renamed = []
    for item in items:
        seen[item.id] += 1
        name, number = item.id, seen[item.id]
        while number > 1 and name in taken:
            name, number = f"{item.id} ({number})", number + 1
        taken.add(name)
        renamed.append(replace(item, id=name))
    return renamed


def image_from_array(array: Any, preprocessing: Preprocessing) -> Image:
    """Take an array whose axes can only mean one thing to a model.

    `array`: ndarray, shape (Y, X) or (C, Y, X), or (Y, X, C) for a model of red, green and blue;
    with the model's channels, in its order.
    """
    names = tuple(channel.name for channel in preprocessing.channels)
    count, shape = len(names), tuple(array.shape)
    if len(shape) == 2 and count == 1:
        return Image(array, "YX", names)
    first = len(shape) == 3 and shape[0] == count
    is_rgb = tuple(name.lower() for name in names) == _RGB
    last = len(shape) == 3 and shape[-1] == count and is_rgb
    if first and not last:
        return Image(array, "CYX", names)
    if last and not first:
        return Image(array, "YXS", names)
    raise AxesError(
        f"an array of shape {shape} does not say where its {count} channels "
        f"({', '.join(names)}) are; {_remedy(shape, names)}"
    )


def _remedy(shape: tuple[int, ...], names: tuple[str, ...]) -> str:
    """Say what to write instead, with as many axes and channels as the array has."""
    if len(shape) == 2:
        return (
            f"stack the channels as ({len(names)}, Y, X), or say which one it is with "
            f"Image(array, axes='YX', channels=[{names[0]!r}])"
        )
    if not 3 <= len(shape) <= 6:
        return f"give an array ({len(names)}, Y, X) for each image"
    axes = _likely_axes(shape, len(names))
    letter = next((letter for letter in "CS" if letter in axes), None)
    size = 1 if letter is None else shape[axes.index(letter)]
    if letter == "S":
        listed = ""
    elif size == len(names):
        listed = f", channels={list(names)}"
    else:
        listed = f", channels=[its {size} names]"
    return f"say so with Image(array, axes={axes!r}{listed}) if that is what its axes are"


def _likely_axes(shape: tuple[int, ...], count: int) -> str:
    """Guess axes for a message; nothing is classified by them."""
    places = [len(shape) - 3, *range(len(shape) - 3), len(shape) - 1]
    place = next((place for place in places if shape[place] == count), None)
    if place is None and count == 1:
        return ["T", "TZ", "PTZ", "PTZQ"][len(shape) - 3] + "YX"
    letter = "C"
    if place is None and shape[-1] in (3, 4):
        letter, place = "S", len(shape) - 1
    others = ["", "T", "TZ", "PTZ"][len(shape) - 3] + "YX"
    place = len(shape) - 3 if place is None else place
    return others[:place] + letter + others[place:]


def _bad(name: str, error: InputError | OSError, finishes: int) -> BadImage:
    if isinstance(error, OSError):
        reason = f"{name} cannot be read ({error.strerror or error}); check the file"
        return BadImage(name, reason, UnreadableImageError(reason), finishes)
    return BadImage(name, str(error), error, finishes)


def _check_size(pixels: NDArray[np.float32], spec: BundleSpec) -> None:
    smallest = spec.input.minimum_size
    height, width = pixels.shape[:2]
    if smallest is not None and (height < smallest[0] or width < smallest[1]):
        raise ImageError(
            f"an image of {height} x {width} pixels is too small for {spec.name}; it needs at "
            f"least {smallest[0]} x {smallest[1]}"
        )


def _position(index: Mapping[str, int]) -> str:
    steps = ",".join(f"{letter.lower()}={step}" for letter, step in index.items())
    return f"[{steps}]" if steps else ""


def _metadata(item: Item, image: Image, index: Mapping[str, int]) -> dict[str, Any]:
    known = _scalars(image.metadata) if item.metadata is None else dict(item.metadata)
    for letter, key in _PLANE_ROWS:
        rows = image.metadata.get(key)
        if letter in index and isinstance(rows, list | tuple) and index[letter] < len(rows):
            known |= _scalars(rows[index[letter]])
    return known


def _scalars(metadata: Any) -> dict[str, Any]:
    """Keep what fits into a cell of a table."""
    if not isinstance(metadata, Mapping):
        return {}
    return {
        key: value
        for key, value in metadata.items()
        if value is None or isinstance(value, str | int | float | bool)
    }
