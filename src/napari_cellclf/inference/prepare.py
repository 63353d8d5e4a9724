"""Images read and prepared in threads while the network computes, handed over in order.

Reading a file waits for a disk, and what takes long in decoding, resizing and normalising is
compiled code that releases Python's lock, so that threads help. How far they run ahead is bounded
by the bytes that lie ready, however many files there are.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from napari_cellclf.core.channels import is_one_of_several, taken_as, taken_in_order
from napari_cellclf.core.image import Image
from napari_cellclf.core.image_checks import image_remarks, pixel_size_remark
from napari_cellclf.core.objects import ImageObject, Plane, position_text
from napari_cellclf.core.progress import part_done, watched
from napari_cellclf.errors import (
    AxesError,
    CancelledError,
    ChannelMismatchError,
    ImageError,
    ImageTooLargeError,
    InputError,
    UnreadableImageError,
)
from napari_cellclf.inference.engine_library import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import BundleSpec


Mappings = Mapping[str, str | None]

TOO_LARGE = "needs more memory than is free; give a smaller image, or close other programs"

#: About a tenth of the work on a file is Python's own (opening it, its name, its header) and holds
#: Python's lock, so that more threads than this would wait for it.
_MOST_THREADS = 16

#: How soon a stop is noticed while an image is read and prepared.
_POLL_SECONDS = 0.1

#: Bytes that may lie ready, and be under way: a batch.
_MOST_BYTES = 1 << 27

#: Objects that one thread prepares at a time: single ones take less than handing them over.
_OBJECTS_AT_ONCE = 64

#: Where the readers of stacks put what is known of each plane, and along which axis it goes.
_PLANE_ROWS = (("P", "sites"), ("T", "frames"))


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


@dataclass(frozen=True)
class UnreadImage:
    """One thing to classify, not read yet."""

    #: Its name; planes add their position.
    id: str
    #: Gives the image.
    read: Callable[[], Image]
    #: What the names say; None takes it from the image.
    metadata: Mapping[str, Any] | None = None
    #: Whether every plane is a step of progress, or only the whole.
    count_planes: bool = False
    #: Which planes are meant, with what is known of each; empty for all.
    planes: Mapping[Plane, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedPlane:
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
    #: What plain checks of its pixels found.
    remarks: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of pixels."""
        return self.pixels.nbytes


@dataclass(frozen=True)
class NoObjects:
    """A plane whose mask is empty, so that there is nothing to classify."""

    #: Which one.
    id: str
    #: How many steps of progress end with it.
    finishes: int

    @property
    def nbytes(self) -> int:
        """Bytes of pixels: none."""
        return 0


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


#: What becomes of a plane, or of an object.
Prepared: TypeAlias = PreparedPlane | BadImage | NoObjects


def distinct(items: Sequence[UnreadImage]) -> list[UnreadImage]:
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


def prepared_ahead(
    items: Iterable[UnreadImage],
    spec: BundleSpec,
    mapping: Mappings | None,
    *,
    batch_size: int,
    threads: int | None = None,
    on_wait: Callable[[str, float], None] = lambda doing, part: None,
) -> Generator[Prepared]:
    """Read and prepare images in threads.

    `on_wait`: told several times a second, while nothing is ready, what is being done and which
    fraction of that image is done; may raise.
    """
    count = threads or default_threads()
    most = batch_size + count
    pool = ThreadPoolExecutor(count, "cellclf-prepare")
    parts = _Parts()

    def waiting() -> None:
        on_wait(*parts.oldest())

    def carried_out(name: str, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        watched = (partial(parts.watch, name, task) for task in tasks)
        return in_order(pool, watched, most, on_wait=waiting)

    def rows(opened: _Opened) -> Iterator[Prepared]:
        if isinstance(opened, _Stack):
            for plane in carried_out(opened.item.id, _planes(opened, spec, mapping)):
                yield from rows(plane)
        elif isinstance(opened, _Objects):
            for chunk in carried_out(opened.name, _chunks(opened, spec, mapping)):
                yield from chunk.rows
        else:
            yield opened

    try:
        tasks = (partial(parts.watch, item.id, _open, item, spec, mapping) for item in items)
        for opened in in_order(pool, tasks, most, on_wait=waiting):
            yield from rows(opened)
    finally:
        # What is being decoded in one piece ends by itself; nobody waits for it.
        parts.ended.set()
        pool.shutdown(wait=False, cancel_futures=True)


class _Parts:
    """How far the images are that threads are working on, and how these are ended."""

    def __init__(self) -> None:
        self.ended = Event()
        self._doing: dict[int, tuple[str, float]] = {}

    def oldest(self) -> tuple[str, float]:
        """Say what is being done to the image that was begun first, and how far it is."""
        return next(iter(list(self._doing.values())), ("", 0.0))

    def watch(self, name: str, task: Callable[..., T], *arguments: Any) -> T:
        """Carry out a task, unless it is ended between two parts of it."""
        key = id(threading.current_thread())

        def on_part(what: str, fraction: float) -> None:
            if self.ended.is_set():
                raise CancelledError(f"{name} was left as asked")
            # Reading and preparing take about as long.
            part = fraction / 2 + (what == "preparing") / 2
            self._doing[key] = f"{what} {name}: {fraction:.0%}", part

        try:
            with watched(on_part):
                return task(*arguments)
        finally:
            self._doing.pop(key, None)


def default_threads() -> int:
    """Return how many threads prepare images: one for each processor, 16 at most.

    The work is computing, not waiting, so that more threads than processors would only take turns.
    The network's own threads are not subtracted: on a processor both share the cores, whoever is
    behind, and with a GPU the cores are free.
    """
    return min(usable_cores(), _MOST_THREADS)


def in_order(
    pool: ThreadPoolExecutor,
    tasks: Iterable[Callable[[], T]],
    most: int,
    most_bytes: int = _MOST_BYTES,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[T]:
    """Carry tasks out in threads, and yield what they return in the order of the tasks.

    `on_wait`: called again and again while the next one is not ready.
    """
    waiting: deque[Future[T]] = deque()
    sizes: deque[int] = deque(maxlen=most)
    remaining = iter(tasks)

    def fill() -> None:
        room = max(1, min(most, most_bytes // max(sizes))) if sizes else 1
        while len(waiting) < room and (task := next(remaining, None)) is not None:
            waiting.append(pool.submit(task))

    fill()
    while waiting:
        next_one = waiting.popleft()
        while on_wait is not None and not wait([next_one], _POLL_SECONDS).done:
            on_wait()
        result = next_one.result()
        sizes.append(max(1, result.nbytes))
        # Before the result is used, so that the threads have work meanwhile.
        fill()
        yield result


@dataclass(frozen=True)
class _Stack:
    """An image of several planes, none of which is prepared yet."""

    item: UnreadImage
    image: Image

    @property
    def nbytes(self) -> int:
        return int(self.image.data.nbytes)


@dataclass(frozen=True)
class _Objects:
    """A plane in memory and its objects, none of which is prepared yet."""

    item: UnreadImage
    image: Image
    index: Mapping[str, int]
    plane: Image
    objects: tuple[ImageObject, ...]
    finishes: int
    remarks: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.item.id + position_text(self.index)

    @property
    def nbytes(self) -> int:
        # An object with its mask takes a few hundred bytes.
        return int(self.plane.data.nbytes) + len(self.objects) * 512


@dataclass(frozen=True)
class _Chunk:
    """Some objects that follow one another."""

    rows: tuple[PreparedPlane | BadImage, ...]

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows)


_Opened: TypeAlias = "PreparedPlane | BadImage | NoObjects | _Objects | _Stack"


def _open(item: UnreadImage, spec: BundleSpec, mapping: Mappings | None) -> _Opened:
    """Read an image; prepare it, too, if it is one plane."""
    try:
        image = read_item(item)
        if isinstance(image, BadImage):
            return image
        if image.n_planes > 1 or item.planes:
            return _Stack(item, image)
        ((index, plane),) = image.planes()
        return _one_plane(item, image, index, plane, spec, mapping, 1)
    except MemoryError:
        return _does_not_fit(item.id, 1)


def _one_plane(
    item: UnreadImage,
    image: Image,
    index: Mapping[str, int],
    plane: Image,
    spec: BundleSpec,
    mapping: Mappings | None,
    finishes: int,
) -> _Opened:
    """Prepare a plane, or find its objects if the model is one for objects."""
    if plane.objects is None and spec.input.preprocessing.object_crop is None:
        return prepare_plane(item, image, index, plane, spec, mapping, finishes)
    return _find_objects(item, image, index, plane, spec, mapping, finishes)


def _find_objects(
    item: UnreadImage,
    image: Image,
    index: Mapping[str, int],
    plane: Image,
    spec: BundleSpec,
    mapping: Mappings | None,
    finishes: int,
) -> _Opened:
    name = item.id + position_text(index)
    try:
        if spec.input.preprocessing.object_crop is None:
            raise ImageError(
                f"{name} came with objects, but {spec.name} classifies whole images; use a model "
                "that was trained on objects, or leave the objects out"
            )
        if plane.objects is None:
            raise ImageError(
                f"{name} came without objects, but {spec.name} classifies objects; give a mask or "
                "the centres of its objects"
            )
        objects = plane.find_objects()
        if not objects:
            return NoObjects(name, finishes)
        # Read once, not once an object.
        read = replace(plane, data=np.asarray(plane.data), objects=None)
    except (InputError, OSError) as error:
        return _bad(name, error, finishes)
    try:
        remarks = _remarks(read, spec, mapping)
    except ChannelMismatchError:
        # Every object gives this as its reason.
        remarks = ()
    return _Objects(item, image, index, read, objects, finishes, remarks)


def _planes(
    stack: _Stack, spec: BundleSpec, mapping: Mappings | None
) -> Iterator[Callable[[], _Opened]]:
    for index, last in meant_planes(stack.item, stack.image):
        yield partial(_plane, stack, index, spec, mapping, last)


def meant_planes(item: UnreadImage, image: Image) -> Iterator[tuple[Mapping[str, int], int]]:
    """Go over the planes that are meant, with how many steps of progress end with each."""
    meant = list(map(dict, item.planes)) or [index for index, _ in image.planes()]
    for number, index in enumerate(meant, 1):
        yield index, int(item.count_planes or number == len(meant))


def _plane(
    stack: _Stack,
    index: Mapping[str, int],
    spec: BundleSpec,
    mapping: Mappings | None,
    finishes: int,
) -> _Opened:
    try:
        plane = stack.image.plane(index)
        return _one_plane(stack.item, stack.image, index, plane, spec, mapping, finishes)
    except AxesError as error:
        return _bad(stack.item.id + position_text(index), error, finishes)
    except MemoryError:
        return _does_not_fit(stack.item.id, finishes)


def _chunks(
    found: _Objects, spec: BundleSpec, mapping: Mappings | None
) -> Iterator[Callable[[], _Chunk]]:
    for first in range(0, len(found.objects), _OBJECTS_AT_ONCE):
        yield partial(_chunk, found, first, spec, mapping)


def _chunk(found: _Objects, first: int, spec: BundleSpec, mapping: Mappings | None) -> _Chunk:
    rows = []
    for number, one in enumerate(found.objects[first : first + _OBJECTS_AT_ONCE], first + 1):
        # Only the last object ends the plane.
        last = found.finishes * (number == len(found.objects))
        part_done("preparing", number / len(found.objects))
        row: PreparedPlane | BadImage
        try:
            row = prepare_plane(
                found.item, found.image, found.index, found.plane, spec, mapping, last, region=one
            )
            if isinstance(row, PreparedPlane):
                row = replace(row, remarks=found.remarks)
        except MemoryError:
            row = _does_not_fit(found.item.id, last)
        rows.append(row)
    return _Chunk(tuple(rows))


def _does_not_fit(name: str, finishes: int) -> BadImage:
    reason = f"{name} {TOO_LARGE}"
    return BadImage(name, reason, ImageTooLargeError(reason), finishes)


def prepared_rows(
    item: UnreadImage, spec: BundleSpec, mapping: Mapping[str, str | None] | None
) -> Iterator[Prepared]:
    """Read an image and prepare its planes and objects one after the other."""
    image = read_item(item)
    if isinstance(image, BadImage):
        yield image
        return
    for index, last in meant_planes(item, image):
        opened = _plane(_Stack(item, image), index, spec, mapping, last)
        if isinstance(opened, _Objects):
            for task in _chunks(opened, spec, mapping):
                yield from task().rows
        elif not isinstance(opened, _Stack):
            yield opened


def read_item(item: UnreadImage) -> Image | BadImage:
    """Read an image."""
    try:
        return item.read()
    except (InputError, OSError) as error:
        return _bad(item.id, error, 1)


def prepare_plane(
    item: UnreadImage,
    image: Image,
    index: Mapping[str, int],
    plane: Image,
    spec: BundleSpec,
    mapping: Mapping[str, str | None] | None,
    finishes: int,
    *,
    region: ImageObject | None = None,
) -> PreparedPlane | BadImage:
    """Prepare a plane, or one object of it, for the network.

    `index`, `plane`: position and pixels, from `Image.planes`.
    """
    name = item.id + position_text(index, None if region is None else region.number)
    preprocessing = spec.input.preprocessing
    try:
        if region is None:
            # Read once, not once for the network and once for the checks.
            plane = replace(plane, data=np.asarray(plane.data))
        # In one piece of memory, so that batches are put together fast.
        pixels = np.ascontiguousarray(preprocessing(plane, mapping, region=region))
        _check_size(pixels, spec)
        remarks = () if region is not None else _remarks(plane, spec, mapping)
    except ChannelMismatchError as error:
        hint = _channels_as_planes(image, len(preprocessing.channels)) or _as_single(image, spec)
        return _bad(name, ChannelMismatchError(f"{error}{hint}"), finishes)
    except (InputError, OSError) as error:
        return _bad(name, error, finishes)
    expected = preprocessing.channels
    by_order = not mapping and len(expected) > 1 and taken_in_order(expected, image.channels)
    known = _metadata(item, image, index)
    if region is not None:
        known |= object_columns(region)
    return PreparedPlane(name, known, pixels, finishes, item.id if by_order else None, remarks)


def _remarks(
    plane: Image, spec: BundleSpec, mapping: Mapping[str, str | None] | None
) -> tuple[str, ...]:
    preprocessing = spec.input.preprocessing
    matched = preprocessing.match(plane, mapping)
    channels = dict(zip(matched.expected, matched.sources, strict=True))
    unnamed = is_one_of_several(preprocessing.channels, plane.channels)
    taken = tuple(
        taken_as(name) for name, source in channels.items() if unnamed and source is not None
    )
    return (
        *taken,
        *image_remarks(plane, channels),
        *pixel_size_remark(preprocessing.pixel_size(plane), spec.training.pixel_size),
    )


def _as_single(image: Image, spec: BundleSpec) -> str:
    """Say how a lone grey image is taken for the channel that the model would take it for."""
    single = spec.input.single_channel
    if single is None or not is_one_of_several(spec.input.preprocessing.channels, image.channels):
        return ""
    source = image.channels[0] or "1"
    return f'; if it shows {single}, say so with --channels "{single}={source}"'


def _channels_as_planes(image: Image, n_channels: int) -> str:
    """Say so where an image may hold as slices or times what are its channels."""
    sizes = {letter: image.shape[image.axes.index(letter)] for letter in image.leading_axes}
    alike = [letter for letter, size in sizes.items() if size == n_channels > 1]
    if image.n_channels > 1 or not alike:
        return ""
    axes = "".join("C" if letter == alike[0] else letter for letter in image.axes)
    return (
        f"; if the {n_channels} planes along {alike[0]} are its channels, save them as channels "
        f"(axes {axes})"
    )


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


def object_columns(one: ImageObject) -> dict[str, Any]:
    """Return what a table says of an object; of a point, nothing is known of area and border.

    Examples
    --------
    >>> object_columns(ImageObject(7, (3.5, 2.0), (2, 1, 6, 4), 10))["area"]
    10
    """
    y, x = one.centre
    known: dict[str, Any] = {"object": one.number, "y": y, "x": x}
    if one.area is not None:
        known["area"] = one.area
    if one.box is not None:
        known["touches_border"] = one.touches_border
    return {**one.fields, **known}


def _metadata(item: UnreadImage, image: Image, index: Mapping[str, int]) -> dict[str, Any]:
    known = _scalars(image.metadata) if item.metadata is None else dict(item.metadata)
    known |= item.planes.get(tuple(index.items()), {})
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
