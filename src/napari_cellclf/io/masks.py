"""Label masks: where the one of an image is, what is in it, and which objects a table names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import (
    ImageObject,
    NamedObject,
    Plane,
    missing_object,
    objects_in_mask,
)
from napari_cellclf.errors import (
    AxesError,
    ImageError,
    InputError,
    NoImagesError,
    UnreadableImageError,
)
from napari_cellclf.io.decoding import limit_or_default
from napari_cellclf.io.files import is_lossy, read_file
from napari_cellclf.io.folder_walk import LeftOut, image_files
from napari_cellclf.io.local_paths import MASK_ENDINGS, local_path
from napari_cellclf.io.named_images import named_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.io.sources import ImageSource

OnNote: TypeAlias = Callable[[str], None]

#: Of files that masks are saved as.
_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
_MOST_NAMED = 5
#: Of an object, as spreadsheets may write it.
_NUMBER = re.compile(r"\d+(\.0*)?")
#: Columns of y and x: as we call them, scikit-image's regionprops, and napari's points; with the
#: third one they are z and y.
_CENTRES = (
    ("y", "x", ""),
    ("centroid-0", "centroid-1", "centroid-2"),
    ("axis-0", "axis-1", "axis-2"),
)


@dataclass(frozen=True)
class ObjectChoice:
    """Which objects of an image are meant."""

    #: Path of the mask.
    mask: str | None = None
    #: In order; None for every object of the mask.
    chosen: tuple[NamedObject, ...] | None = None

    @property
    def needs_mask(self) -> bool:
        """Whether it cannot be told without a mask where they are."""
        return self.chosen is None or any(one.centre is None for one in self.chosen)

    @property
    def names_several(self) -> bool:
        """Whether a table names objects by their numbers, or several of one image."""
        return self.chosen is not None and (self.mask is not None or len(self.chosen) > 1)

    def add_to(self, image: Image) -> Image:
        """Return an image with these objects; reads the mask.

        Raises ImageError if the mask cannot be read, or does not fit. Objects of planes that the
        image lacks are left out.
        """
        if self.chosen is None:
            labels = None if self.mask is None else fitting(read_mask(self.mask), image, self.mask)
            return replace(image, objects=labels)
        read = lru_cache(1)(read_mask)
        of_plane: dict[Plane, list[NamedObject]] = {}
        for one in self.chosen:
            of_plane.setdefault(one.plane, []).append(one)
        objects: dict[tuple[int, ...], tuple[ImageObject, ...]] = {}
        for plane, some in of_plane.items():
            with suppress(AxesError):
                at = image.position(dict(plane))
                found = pick(numbered_objects(self.mask, image, plane, read), some)
                objects[at] = (*objects.get(at, ()), *found)
        if not objects and self.chosen:
            # Of none of them; this says why.
            image.position(dict(self.chosen[0].plane))
        only_plane = image.n_planes == 1
        return replace(image, objects=next(iter(objects.values()), ()) if only_plane else objects)


def numbered_objects(
    mask: str | None,
    image: Image,
    plane: Plane = (),
    read: Callable[[str], NDArray[Any]] | None = None,
) -> dict[int, ImageObject]:
    """Read the objects of a mask, by their numbers: those in a plane of an image.

    The mask is of the whole image, or of that plane; without one, there are none. `read`: reads it,
    as `read_mask` does.
    """
    alone = image.plane(dict(plane))
    if mask is None:
        return {}
    labels = (read or read_mask)(mask)
    if [n for n in labels.shape if n > 1] == [n for n in alone.height_width if n > 1]:
        marked = replace(alone, objects=fitting(labels, alone, mask))
    else:
        marked = replace(image, objects=fitting(labels, image, mask)).plane(dict(plane))
    try:
        found = objects_in_mask(np.asarray(marked.objects))
    except ImageError as error:
        raise ImageError(f"{mask}: {error}") from error
    return {one.number: one for one in found}


def pick(
    found: Mapping[int, ImageObject], chosen: Iterable[NamedObject]
) -> tuple[ImageObject, ...]:
    """Return the objects that a table names: those of the mask, else what the table says."""
    return tuple(
        replace(found[one.number], fields=one.fields) if one.number in found else _alone(one)
        for one in chosen
    )


def _alone(one: NamedObject) -> ImageObject:
    if one.centre is None:
        return replace(missing_object(one.number), fields=one.fields)
    return ImageObject(one.number, one.centre, fields=one.fields)


def read_mask(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> NDArray[Any]:
    """Read a label mask: a TIFF, a grey PNG or BMP, or a numpy array; as stored.

    `limit_bytes`: bytes of decoded numbers allowed, as for `read_file`.
    """
    file = local_path(path)
    if file.suffix.lower() == ".npy":
        return _read_npy(file, limit_or_default(limit_bytes))
    image = read_file(file, limit_bytes=limit_bytes)
    if is_lossy(file):
        raise ImageError(
            f"{file} is compressed as JPEG, which changes the numbers of objects; save the mask as "
            "PNG, or as TIFF with another compression"
        )
    if image.n_channels > 1:
        raise ImageError(
            f"{file} is an image of {image.n_channels} channels or colours, not a label mask; save "
            "the numbers of the objects as one grey channel"
        )
    mask = np.asarray(image.data)
    axis = image.channel_axis
    return mask if axis is None else mask.squeeze(axis)


def _read_npy(file: Path, limit: int) -> NDArray[Any]:
    if not file.is_file():
        raise UnreadableImageError(f"{file} does not exist; check the path")
    try:
        # Mapped, so that its size is known before it is read; never as a pickle.
        mask = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableImageError(
            f"{file} is not a plain numpy array, which alone is safe to open; save the mask as "
            "TIFF or PNG (in Cellpose: save masks as PNG or TIFF)"
        ) from error
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "buif":
        raise UnreadableImageError(f"{file} holds no array of numbers; save the mask as TIFF")
    if mask.nbytes > limit:
        raise UnreadableImageError(
            f"{file} takes {mask.nbytes} bytes, more than {limit}; save a smaller mask"
        )
    return np.array(mask)


def fitting(labels: NDArray[Any], image: Image, mask: str) -> NDArray[Any]:
    """Return a mask in the shape that an image wants its objects in; refuse one of another size."""
    shape = tuple(n for axis, n in zip(image.axes, image.shape, strict=True) if axis not in "CS")
    if [n for n in labels.shape if n > 1] != [n for n in shape if n > 1]:
        raise ImageError(
            f"the mask {mask} is of shape {labels.shape}, but {image.source or 'the image'} of "
            f"{shape}; check that it is the mask of this image"
        )
    return labels.reshape(shape)


class MaskFolder:
    """The masks below a folder, found by the name of their image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_stem: defaultdict[str, list[Path]] = defaultdict(list)
        left_out = LeftOut()
        for path in sorted([*image_files(folder, left_out), *folder.rglob("*.npy")]):
            self._by_stem[_composed(path.stem)].append(path)
        for path in left_out.masks:
            self._by_stem[_composed(path.stem)].append(path)

    def find(self, image: Path, below: Path | None) -> Path | None:
        """Find the mask of an image that lies in the folder `below` others.

        In the folder of the same name below that of the masks first, then in that itself; of an
        image that was given alone, `below` is None, and the folders around it tell.
        """
        found = [
            path
            for ending in (*MASK_ENDINGS, "")
            for path in self._by_stem.get(_composed(image.stem) + ending, ())
            if path != image
        ]
        around = Path(os.path.abspath(image)).parent.parts[1:]  # noqa: PTH100
        belows = (
            [Path(*around[start:]) for start in range(len(around))] if below is None else [below]
        )
        places = [self.folder / one for one in (*belows, Path())]
        near = [path for place in places for path in found if path.parent == place]
        if near or below not in (None, Path()):
            return next(iter(near), None)
        if len({path.parent for path in found}) > 1:
            raise InputError(
                f"several masks below {self.folder} are named like {image} ({found[0]} and "
                f"{found[-1]}); put the images into folders as their masks are"
            )
        return next(iter(found), None)


def _composed(name: str) -> str:
    # File systems write one name in two ways (é, or e and an accent).
    return unicodedata.normalize("NFC", name)


def mask_beside(image: Path) -> Path | None:
    """Find the mask that lies beside an image: ``stem_masks``, ``stem_cp_masks``, ``stem_labels``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "field_cp_masks.png").touch()
    ...     mask_beside(Path(folder, "field.tif")).name
    'field_cp_masks.png'
    """
    for ending in MASK_ENDINGS:
        for suffix in _SUFFIXES:
            path = image.with_name(f"{image.stem}{ending}{suffix}")
            # Not Path.is_file, which raises where a name is too long.
            if os.path.isfile(path):  # noqa: PTH113
                return path
    return None


def find_objects(
    sources: Sequence[ImageSource],
    masks: str | os.PathLike[str] | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str]] = (),
    on_note: OnNote = lambda note: None,
) -> list[ImageSource]:
    """Return images with their objects, for a model of objects; no mask is opened.

    `masks`: a folder of masks, or the mask of the only image; by default they lie beside their
    images, or a table names them. `inputs`: what the images were found in. `on_note`: told in a
    sentence what is left out.
    """
    folders = [local_path(one) for one in inputs]
    sources = _without_masks(sources, masks, folders)
    find = _finder(masks, sources, folders)
    found: list[ImageSource] = []
    lacking: list[str] = []
    for source in sources:
        choice = source.objects or ObjectChoice()
        if choice.mask is None and choice.needs_mask:
            mask = next(filter(None, map(find, _files_of(source))), None)
            if mask is None:
                lacking.append(source.id)
                continue
            choice = replace(choice, mask=str(mask))
        found.append(with_choice(source, choice))
    own = {os.path.abspath(one.objects.mask) for one in found if one.objects and one.objects.mask}  # noqa: PTH100
    # A mask that was found among the images, as by images/*.png, is none.
    lacking = [name for name in lacking if os.path.abspath(name) not in own]  # noqa: PTH100
    found = [one for one in found if os.path.abspath(one.id) not in own]  # noqa: PTH100
    _check_used_once(found)
    if not found and not lacking:
        raise NoImagesError(
            f"all images that were given are masks themselves, in {masks}; give the images, and "
            "say where their masks are (--objects)"
        )
    if not found:
        where = "beside" if masks is None else f"in {masks} for"
        named = Path(lacking[0]).name if lacking else "the images"
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        raise NoImagesError(
            f"there is no mask {where} {named}{more}, so no object is known; name masks like their "
            f"images, with {', '.join(MASK_ENDINGS[:-1])} or {MASK_ENDINGS[-1]} at the end, or "
            "give the folder that they are in"
        )
    if lacking:
        named = ", ".join(lacking[:_MOST_NAMED])
        more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
        images = counted(len(lacking), "image has", "images have")
        verb = "is" if len(lacking) == 1 else "are"
        on_note(f"{images} no mask and {verb} left out: {named}{more}")
    return found


def refuse_objects(sources: Sequence[ImageSource], model: str) -> None:
    """Raise InputError if a table names objects, for a model of whole images."""
    several = [one.id for one in sources if one.objects is not None and one.objects.names_several]
    if several:
        raise InputError(
            f"a table names objects of {several[0]}, but {model} classifies whole images; use a "
            "model that was trained on objects, or name each image once"
        )


def _without_masks(
    sources: Sequence[ImageSource], masks: str | os.PathLike[str] | None, inputs: Sequence[Path]
) -> Sequence[ImageSource]:
    """Leave out what lies in the folder of masks, where that is within one of images."""
    place = None if masks is None else Path(os.path.abspath(masks))  # noqa: PTH100
    if place is None or place in [Path(os.path.abspath(one)) for one in inputs]:  # noqa: PTH100
        return sources
    return [
        source
        for source in sources
        if not Path(os.path.abspath(source.id)).is_relative_to(place)  # noqa: PTH100
        or source.objects is not None
    ]


def _files_of(source: ImageSource) -> list[Path]:
    """List the files of an image, any of which its mask may be named after."""
    path = Path(source.id)
    named = named_image(path) if source.scheme is not None else None
    return [path] if named is None else list(named.files.values())


def _check_used_once(sources: Sequence[ImageSource]) -> None:
    """Refuse one mask for two images, which would be wrong for one of them."""
    first: dict[str, str] = {}
    for source in sources:
        mask = source.objects.mask if source.objects is not None else None
        if mask is not None and first.setdefault(mask, source.id) != source.id:
            raise InputError(
                f"{mask} is the mask of {first[mask]} and of {source.id}; give each image a mask "
                "of its own"
            )


def _finder(
    masks: str | os.PathLike[str] | None, sources: Sequence[ImageSource], inputs: Sequence[Path]
) -> Callable[[Path], Path | None]:
    if masks is None:
        return mask_beside
    place = local_path(masks)
    if place.is_dir():
        folder = MaskFolder(place)
        roots = [one for one in inputs if one.is_dir()]

        def below(image: Path) -> Path | None:
            root = next((one for one in roots if image.is_relative_to(one)), None)
            return folder.find(image, None if root is None else image.parent.relative_to(root))

        return below
    if not place.is_file():
        raise NoImagesError(f"the masks {place} do not exist; check the path")
    if len(sources) != 1:
        raise InputError(
            f"{place} is one mask, but there are {counted(len(sources), 'image')}; give a folder "
            "of masks"
        )
    return lambda image: place


def with_choice(source: ImageSource, choice: ObjectChoice) -> ImageSource:
    """Return a source whose image comes with its objects."""
    known: dict[str, Any] = {"path": source.id}
    if choice.mask is not None:
        known["mask"] = choice.mask
    return replace(
        source,
        metadata={**source.metadata, **known},
        read=partial(_read, source.read, choice),
        objects=choice,
    )


def _read(read: Callable[[], Image], choice: ObjectChoice) -> Image:
    return choice.add_to(read())


@dataclass(frozen=True)
class ObjectColumns:
    """The columns of a table that say which object of an image a row is."""

    mask: str | None = None
    object: str | None = None
    y: str | None = None
    x: str | None = None

    @classmethod
    def of(cls, columns: Sequence[str]) -> ObjectColumns | None:
        """Find them; None in a table of whole images.

        Examples
        --------
        >>> ObjectColumns.of(["path", "Y", "X", "label"])
        ObjectColumns(mask=None, object=None, y='Y', x='X')
        >>> ObjectColumns.of(["path", "centroid-0", "centroid-1"]).names
        ('centroid-0', 'centroid-1')
        """
        by_name = {name.lower(): name for name in columns}
        mask, number = by_name.get("mask"), by_name.get("object")
        y, x = None, None
        for first, second, depth in _CENTRES:
            if first in by_name and second in by_name and depth not in by_name:
                y, x = by_name[first], by_name[second]
                break

        if mask is None and y is None:
            return None
        return cls(mask, number, y, x)

    @classmethod
    def of_rows(
        cls, columns: Sequence[str], rows: Sequence[Mapping[str, str]]
    ) -> ObjectColumns | None:
        """Find those of a table whose masks may also lie beside its images."""
        found = cls.of(columns)
        number = next((name for name in columns if name.lower() == "object"), None)
        if found is not None or number is None:
            return found
        are_numbers = bool(rows) and all(_NUMBER.fullmatch(row[number].strip()) for row in rows)
        return cls(object=number) if are_numbers else None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(name for name in (self.mask, self.object, self.y, self.x) if name is not None)

    def mask_in(self, row: Mapping[str, str]) -> str:
        """Return the cell that names the mask; empty if there is none."""
        return row[self.mask].strip() if self.mask is not None else ""

    def object_in(self, row: Mapping[str, str], counted: int, where: str) -> NamedObject | None:
        """Return the object of a row; None if the row is about all objects of a mask.

        `counted`: its position among the rows of its image. `where`: what an error calls the row.
        """
        number = row[self.object].strip() if self.object is not None else ""
        place = [row[name].strip() for name in (self.y, self.x) if name is not None]
        if any(place) and not all(place):
            raise InputError(f"{where} has only one of y and x; fill both or none")
        if not number and not any(place):
            if self.object is None and self.y is None:
                return None
            columns = " or ".join(
                filter(None, (self.object, f"{self.y} and {self.x}" if self.y else None))
            )
            raise InputError(f"{where} names no object; fill {columns}, or remove the row")
        centre = [_number(cell, where) for cell in place if cell]
        return NamedObject(
            _whole(number, where) if number else counted,
            (centre[0], centre[1]) if centre else None,
        )


def _number(cell: str, where: str) -> float:
    try:
        found = float(cell)
    except ValueError:
        found = float("nan")
    if not np.isfinite(found):
        raise InputError(f"{where} has {cell!r} where a number of pixels should be; correct it")
    return found


def _whole(cell: str, where: str) -> int:
    try:
        found = float(cell)
    except ValueError:
        found = float("nan")
    if not found.is_integer() or found < 0:
        raise InputError(f"{where} has the object {cell!r}; give its number in the mask")
    return int(cell) if cell.isdecimal() else int(found)
