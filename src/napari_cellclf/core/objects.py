"""Objects in an image: where each one is, and the rule by which it is cut out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, isnan, nan
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_cellclf.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Position along leading axes of an image, such as ``(("T", 3),)``; empty for all of it.
Plane: TypeAlias = tuple[tuple[str, int], ...]

#: Of what is cut out, in pixels of the image.
_MOST_SIDE = 16_384
#: How a position is written: "t=3,z=1".
_PLANE = re.compile(r"[a-z]=\d{1,9}(?:,[a-z]=\d{1,9})*")
#: What masks hold that only tell foreground from background.
_FOREGROUND = (1, 255)
#: Up to which every whole number is a float of its own.
_LARGEST_FLOAT = 2**53


@dataclass(frozen=True)
class ImageObject:
    """One labelled region of a plane, or one point.

    Parameters
    ----------
    number : int
        Its value in the mask, as regionprops' ``label``; of points, the position among them.
    centre : tuple of float
        y, x in pixels, as regionprops' ``centroid``.
    box : tuple of int, optional
        Top, left, bottom, right in pixels, the last two not included; None for a point.
    area : int, optional
        Its pixels; None for a point or a box.
    mask : ndarray of bool, optional
        Which pixels within the box are its own; None for a point or a box.
    touches_border : bool
        Whether it may go on beyond the image.
    fields : mapping
        What a table says of it.

    Examples
    --------
    >>> ImageObject(7, centre=(20.0, 30.5)).touches_border
    False
    """

    number: int
    centre: tuple[float, float]
    box: tuple[int, int, int, int] | None = None
    area: int | None = None
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    touches_border: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


class ObjectCrop(BaseModel):
    """The rule by which an object is cut out of its image.

    Parameters
    ----------
    side : float, optional
        Side of the square around the object's centre; None for the object's box.
    margin : float
        What is added on every side, for context.
    unit : {'pixels', 'micrometres'}
        Of `side` and `margin`. With micrometres, images of another magnification are cut alike.
    masked : bool
        Whether pixels that are not the object's own are zero.

    Examples
    --------
    >>> cell = ImageObject(1, centre=(20.0, 30.0))
    >>> ObjectCrop(side=8).window(cell)
    (17, 27, 25, 35)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: float | None = Field(gt=0, le=_MOST_SIDE, allow_inf_nan=False)
    margin: float = Field(default=0, ge=0, le=_MOST_SIDE, allow_inf_nan=False)
    unit: Literal["pixels", "micrometres"] = "pixels"
    masked: bool = False

    @model_validator(mode="after")
    def _unit_of_something(self) -> ObjectCrop:
        if self.unit == "micrometres" and self.side is None and self.margin == 0:
            raise ValueError("micrometres are of a side or a margin; give one, or leave out unit")
        return self

    @property
    def text(self) -> str:
        """What is cut out, in words."""
        unit = "pixels" if self.unit == "pixels" else "µm"
        side = None if self.side is None else self.side + 2 * self.margin
        cut = "its box" if side is None else f"a square of {side:g} {unit} around its centre"
        around = f" and {self.margin:g} {unit} around it" if side is None and self.margin else ""
        return f"{cut}{around}{', its own pixels only' if self.masked else ''}"

    def window(
        self, one: ImageObject, pixel_size: tuple[float, float] | None = None, where: str = ""
    ) -> tuple[int, int, int, int]:
        """Say which pixels are cut out for an object.

        Parameters
        ----------
        one : ImageObject
            The object.
        pixel_size : tuple of float, optional
            Height and width of a pixel in micrometres.
        where : str
            What an error calls the image.

        Returns
        -------
        tuple of int
            Top, left, bottom and right, the last two not included; they may lie outside the image.

        Raises
        ------
        ImageError
            If the object has no box or the image no pixel size, but the rule needs it.
        """
        where = where or "the image"
        scale = self._scale(pixel_size, where)
        if self.side is not None:
            sides = [max(1, _pixels(self.side + 2 * self.margin, size)) for size in scale]
            # The pixel that is nearest to the centre is in the middle; halves go down and right.
            first = [
                floor(centre - (side - 1) / 2 + 0.5)
                for centre, side in zip(one.centre, sides, strict=True)
            ]
            last = [start + side for start, side in zip(first, sides, strict=True)]
        elif one.box is None:
            raise ImageError(
                f"object {one.number} of {where} is a point, but this model looks at the box of an "
                "object; give a mask"
            )
        else:
            around = [_pixels(self.margin, size) for size in scale]
            first = [one.box[0] - around[0], one.box[1] - around[1]]
            last = [one.box[2] + around[0], one.box[3] + around[1]]
        height, width = last[0] - first[0], last[1] - first[1]
        if max(height, width) > _MOST_SIDE:
            raise ImageError(
                f"{height} x {width} pixels would be cut out of {where} for object {one.number}, "
                f"more than {_MOST_SIDE}; check its pixel size, or train with a smaller crop"
            )
        return first[0], first[1], last[0], last[1]

    def _scale(self, pixel_size: tuple[float, float] | None, where: str) -> tuple[float, float]:
        if self.unit == "pixels":
            return 1.0, 1.0
        if pixel_size is None or not all(size > 0 for size in pixel_size):
            raise ImageError(
                f"{where} does not say how large its pixels are, but objects are cut out in "
                "micrometres; give its pixel size, or train with a crop in pixels"
            )
        return pixel_size


@dataclass(frozen=True)
class Cut:
    """Where an object is taken from a plane, worked out once for all its channels."""

    rows: slice | NDArray[np.intp]
    columns: slice | NDArray[np.intp]
    #: The pixels that stay; None for all.
    own: NDArray[np.bool_] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return _length(self.rows), _length(self.columns)

    def __call__(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Take the object's pixels out of a plane (Y, X); a view where nothing is changed."""
        cut: NDArray[Any] = plane[self.rows][:, self.columns]
        return cut if self.own is None else np.where(self.own, cut, np.zeros((), cut.dtype))

    def put_back(self, values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Put values (Y, X) of what was taken at their places in a plane of a shape.

        Where the plane was mirrored, a pixel has the mean of its copies; elsewhere NaN.
        """
        rows, columns = (
            np.arange(one.start, one.stop) if isinstance(one, slice) else one
            for one in (self.rows, self.columns)
        )
        own = np.ones(values.shape, np.float32) if self.own is None else self.own.astype(np.float32)
        total, copies = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        np.add.at(total, np.ix_(rows, columns), values * own)
        np.add.at(copies, np.ix_(rows, columns), own)
        return np.divide(total, copies, out=np.full(shape, np.nan, np.float32), where=copies > 0)


def cut_of(
    rule: ObjectCrop,
    one: ImageObject,
    shape: tuple[int, int],
    pixel_size: tuple[float, float] | None,
    where: str,
) -> Cut:
    """Work out how an object is cut out of planes of a shape; beyond the edges they are mirrored.

    `where`: what errors call the image.
    """
    if any(map(isnan, one.centre)):
        raise ImageError(
            f"the mask of {where} has no object {one.number}; check that the mask is of this image"
        )
    if not all(-0.5 <= at <= side - 0.5 for at, side in zip(one.centre, shape, strict=True)):
        y, x = one.centre
        raise ImageError(
            f"the centre of object {one.number} (y {y:g}, x {x:g}) is outside {where}, which has "
            f"{shape[0]} x {shape[1]} pixels; check that the objects are of this image"
        )
    top, left, bottom, right = rule.window(one, pixel_size, where)
    own = _own(one, (top, left, bottom, right), where) if rule.masked else None
    return Cut(_mirrored(top, bottom, shape[0]), _mirrored(left, right, shape[1]), own)


def _own(one: ImageObject, window: tuple[int, int, int, int], where: str) -> NDArray[np.bool_]:
    if one.mask is None or one.box is None:
        raise ImageError(
            f"object {one.number} of {where} has no mask, but this model looks at an object's own "
            "pixels alone; give a mask"
        )
    top, left, bottom, right = window
    own = np.zeros((bottom - top, right - left), bool)
    inside = [
        (max(low, first), min(high, last))
        for low, high, first, last in (
            (one.box[0], one.box[2], top, bottom),
            (one.box[1], one.box[3], left, right),
        )
    ]
    (y0, y1), (x0, x1) = inside
    if y0 < y1 and x0 < x1:
        own[y0 - top : y1 - top, x0 - left : x1 - left] = one.mask[
            y0 - one.box[0] : y1 - one.box[0], x0 - one.box[1] : x1 - one.box[1]
        ]
    return own


def _mirrored(start: int, stop: int, size: int) -> slice | NDArray[np.intp]:
    """Say which pixels of an axis are taken; the edge itself is not repeated."""
    if start >= 0 and stop <= size:
        return slice(start, stop)
    if size == 1:
        return np.zeros(stop - start, np.intp)
    there = np.arange(start, stop) % (2 * size - 2)
    return np.asarray(np.minimum(there, 2 * size - 2 - there), np.intp)


def _pixels(length: float, size: float) -> int:
    # However small a pixel is said to be, a number that can be compared with the limit.
    return round(min(length / size, _MOST_SIDE + 1))


def _length(taken: slice | NDArray[np.intp]) -> int:
    return taken.stop - taken.start if isinstance(taken, slice) else len(taken)


def objects_in_mask(labels: NDArray[Any]) -> tuple[ImageObject, ...]:
    """Find the objects of a label mask.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        0 is background, every other number one object, in however many pieces; only a mask of
        nothing but 1 (or 255) in several pieces is refused, since it tells no objects apart.

    Returns
    -------
    tuple of ImageObject
        In order of number; number, centre, box and area are those of scikit-image's regionprops.

    Raises
    ------
    ImageError
        If it is not a plane of whole numbers from 0, or tells no objects apart.

    Examples
    --------
    >>> mask = np.zeros((6, 8), int)
    >>> mask[1:3, 2:6] = 7
    >>> objects_in_mask(mask)[0].centre, objects_in_mask(mask)[0].area
    ((1.5, 3.5), 8)
    """
    numbered = _whole_numbers(labels)
    numbers, compact = _compact(numbered)
    if not len(numbers):
        return ()
    if len(numbers) == 1 and numbers[0] in _FOREGROUND:
        _check_one_object(compact, int(numbers[0]))
    from skimage.measure import regionprops_table

    properties = ("label", "centroid", "bbox", "area", "image")
    table = regionprops_table(compact, properties=properties)
    columns = [table[name].tolist() for name in ("centroid-0", "centroid-1", "area")]
    boxes = zip(*(table[f"bbox-{side}"].tolist() for side in range(4)), strict=True)
    rows = zip(numbers.tolist(), *columns, boxes, table["image"], strict=True)
    return tuple(
        ImageObject(number, (y, x), box, int(area), mask, _touches(box, compact.shape))
        for number, y, x, area, box, mask in rows
    )


def _check_one_object(compact: NDArray[np.int32], number: int) -> None:
    """Refuse a mask that tells objects from background, but not from each other."""
    from skimage.measure import label

    sizes = np.sort(np.bincount(label(compact).ravel())[1:])
    # An object may have lost a few pixels.
    pieces = int((sizes >= sizes[-1] / 10).sum())
    if pieces > 1:
        raise ImageError(
            f"the only number in the mask is {number}, in {pieces} separate pieces, so it does not "
            "tell objects apart; give each object its own number (skimage.measure.label does)"
        )


def missing_object(number: int) -> ImageObject:
    """Stand for an object that the mask lacks; cutting it out raises an error that says so."""
    return ImageObject(number, (nan, nan))


def _whole_numbers(labels: NDArray[Any]) -> NDArray[Any]:
    found = np.asarray(labels)
    if found.ndim != 2:
        raise ImageError(
            f"a mask of shape {found.shape} is no plane; give the numbers of one plane's objects "
            "as (Y, X)"
        )
    if found.dtype.kind == "f":
        whole = np.isfinite(found).all() and (found == np.rint(found)).all()
        if whole and np.abs(found).max(initial=0) > _LARGEST_FLOAT:
            raise ImageError(
                f"a mask holds {np.abs(found).max():g} as a float, which is too large to tell "
                "objects apart; save it as whole numbers"
            )
        if not whole:
            raise ImageError(
                "a mask holds numbers that are not whole, as an image does; give a label mask, in "
                "which each object has a number of its own"
            )
        found = found.astype(np.int64)
    if found.dtype.kind == "b":
        found = found.astype(np.uint8)
    if found.dtype.kind not in "ui":
        raise ImageError(f"a mask of type {found.dtype} holds no numbers; give whole numbers")
    if found.dtype.kind == "i" and found.size and found.min() < 0:
        raise ImageError(
            f"a mask holds {found.min()}, but objects are numbered from 1 and the background is 0; "
            "correct the mask"
        )
    return found


def _compact(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Give the objects numbers from 1 without gaps, and return those that they had."""
    largest = int(labels.max(initial=0))
    if largest < 4 * labels.size + 2**16:
        there = np.zeros(largest + 1, bool)
        there[labels.ravel()] = True
        there[0] = False
        numbers = np.flatnonzero(there)
        new = np.zeros(largest + 1, np.int32)
        new[numbers] = np.arange(1, len(numbers) + 1)
        return numbers, new[labels.astype(np.intp, copy=False)]
    numbers, compact = np.unique(labels, return_inverse=True)
    from_one = compact.reshape(labels.shape).astype(np.int32)
    if numbers[0] == 0:
        return numbers[1:], from_one
    from_one += 1
    return numbers, from_one


def objects_at(
    centres: ArrayLike,
    boxes: Sequence[tuple[int, int, int, int]] | None = None,
    shape: tuple[int, int] | None = None,
) -> tuple[ImageObject, ...]:
    """Make objects of centres, such as those of points, or of boxes.

    Parameters
    ----------
    centres : array-like, shape (N, 2)
        y and x of each in pixels.
    boxes : sequence of tuple of int, optional
        Top, left, bottom and right of each, the last two not included.
    shape : tuple of int, optional
        Height and width of the image; tells which boxes touch its border.

    Returns
    -------
    tuple of ImageObject
        In their order, numbered from 1.

    Raises
    ------
    ImageError
        If a centre is not two finite numbers.

    Examples
    --------
    >>> [one.number for one in objects_at([(4.0, 5.0), (9.5, 2.0)])]
    [1, 2]
    """
    places = np.asarray(centres, np.float64)
    if not places.size:
        return ()
    if places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all():
        raise ImageError(
            f"centres of shape {places.shape} are not pairs of finite y and x; give one pair for "
            "each object"
        )
    given: Sequence[tuple[int, int, int, int] | None] = boxes or [None] * len(places)
    return tuple(
        ImageObject(number, (y, x), box, touches_border=_touches(box, shape))
        for number, ((y, x), box) in enumerate(zip(places.tolist(), given, strict=True), 1)
    )


def _touches(box: tuple[int, int, int, int] | None, shape: tuple[int, ...] | None) -> bool:
    if box is None or shape is None:
        return False
    return box[0] <= 0 or box[1] <= 0 or box[2] >= shape[0] or box[3] >= shape[1]


@dataclass(frozen=True)
class NamedObject:
    """An object that a table names, whose mask was not looked at yet."""

    number: int
    #: y, x in pixels, where the table says it.
    centre: tuple[float, float] | None = None
    #: What else the table says of it.
    fields: Mapping[str, Any] = field(default_factory=dict)
    #: Where in a stack it is.
    plane: Plane = ()


def position_text(plane: Mapping[str, int], number: int | None = None) -> str:
    """Write which plane and object of an image a row is, as its id ends.

    Examples
    --------
    >>> position_text({"T": 3}, 12), position_text({}, 12), position_text({})
    ('[t=3,object=12]', '[object=12]', '')
    """
    steps = [f"{letter.lower()}={step}" for letter, step in plane.items()]
    if number is not None:
        steps.append(f"object={number}")
    return f"[{','.join(steps)}]" if steps else ""


def plane_from_text(text: str) -> Plane | None:
    """Read where in a stack a plane is, as ids and tables write it; None for other text.

    Examples
    --------
    >>> plane_from_text("t=3,z=1"), plane_from_text(""), plane_from_text("sagittal")
    ((('T', 3), ('Z', 1)), (), None)
    """
    text = text.replace(" ", "").lower()
    if not text:
        return ()
    if not _PLANE.fullmatch(text):
        return None
    steps = (step.split("=") for step in text.split(","))
    return tuple((letter.upper(), int(number)) for letter, number in steps)


def plane_text(plane: Plane) -> str:
    """Write where in a stack a plane is.

    Examples
    --------
    >>> plane_text((("T", 3), ("Z", 1)))
    't=3,z=1'
    """
    return position_text(dict(plane))[1:-1]
