"""An image as the rest of the package knows it: pixels, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.foreign_arrays import plain_array
from napari_cellclf.core.objects import ImageObject, objects_in_mask, position_text
from napari_cellclf.errors import AxesError, ImageError, ImageTooLargeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Axis letters, those of tifffile: C channel, S sample (of RGB), Z depth, T time, P position
#: (a site), and others that a file may declare (I sequence, Q unknown, ...).
CHANNEL_AXES = "CS"
RGB_NAMES = ("red", "green", "blue", "alpha")
#: In pixels; whole slides have a fifth of it.
LONGEST_SIDE = 2**20
#: The name of a grey image that was saved in colours.
GREY = "grey"


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with named axes and channels.

    Parameters
    ----------
    data : array
        numpy or dask array, any real number type. A dask array is read only where it is used.
        Tensors of PyTorch and TensorFlow and xarray's arrays are taken, too; masked pixels are
        refused.
    axes : str
        One upper-case letter for each dimension, such as ``"CYX"`` or ``"TYX"``; ``Y`` and ``X``
        must be there, and at most one of ``C`` (channels) and ``S`` (samples of RGB).
    channels : sequence of str
        Names along the channel axis; an empty string where a channel has no name. A default of
        empty names (``red, green, blue`` for samples) is made where none are given.
    pixel_size : tuple of float, optional
        Height and width of a pixel in micrometres.
    white : float, optional
        The value that is white, where it is not the largest of the type: 4095 for 12 bits in 16.
    source : str, optional
        Where it came from: a path, or words such as ``"simulated"``.
    metadata : mapping
        Whatever the file or its name says, such as ``{"plate": 1, "well": "B02"}``.
    objects : array, sequence of ImageObject, or mapping, optional
        What a model of objects classifies one by one. A label mask, as an array with this image's
        axes but for channels, in which 0 is background and every other number an object; the
        objects of an image of one plane, such as those from `objects_at`; or, for several planes,
        their objects by position along the leading axes, such as ``{(3,): objects_at(centres)}``.

    Raises
    ------
    AxesError
        If the axes do not fit the array, or the objects do not fit the image.
    ImageError
        If the array is empty or not of real numbers.

    Examples
    --------
    >>> Image(np.zeros((2, 8, 9), "uint8"), "CYX", channels=("DNA", "actin")).n_channels
    2
    """

    data: Any
    axes: str
    channels: Sequence[str] = ()
    pixel_size: tuple[float, float] | None = None
    white: float | None = field(default=None, kw_only=True)
    source: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    objects: Any = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", plain_array(self.data))
        _check_axes(self.axes, self.data.ndim)
        _check_array(self.data)
        check_sides(self.height_width, self.source or "the image")
        channels = tuple(self.channels) or self._default_channels()
        if len(channels) != self.n_channels:
            raise AxesError(
                f"{counted(len(channels), 'channel name')} ({', '.join(channels)}) "
                f"{'was' if len(channels) == 1 else 'were'} given for an image of "
                f"{counted(self.n_channels, 'channel')}; give one name for each channel"
            )
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "objects", self._checked_objects())

    def _checked_objects(self) -> Any:
        given = self.objects
        if given is None or isinstance(given, Mapping):
            wrong = [key for key in given or () if not self._is_position(key)]
            if wrong:
                raise AxesError(
                    f"there are objects of the plane {wrong[0]}, but the leading axes of the image "
                    f"are {self.leading_axes or 'none'}; give a position along each of them"
                )
            return given
        if isinstance(given, Sequence) and all(isinstance(one, ImageObject) for one in given):
            if self.n_planes > 1:
                raise AxesError(
                    f"{counted(len(given), 'object was', 'objects were')} given for an image of "
                    f"{self.n_planes} planes; give those of each plane by its position, or a mask"
                )
            return tuple(given)
        if not hasattr(given, "shape"):
            raise AxesError(
                f"objects cannot be a {type(given).__name__}; give a mask as an array, or what "
                "objects_at returns for their centres"
            )
        mask = plain_array(given)
        shape = tuple(n for axis, n in zip(self.axes, self.shape, strict=True) if axis not in "CS")
        if tuple(mask.shape) != shape:
            raise AxesError(
                f"a mask of shape {tuple(mask.shape)} does not fit {self.source or 'an image'} of "
                f"shape {self.shape} and axes {self.axes}; it must be of shape {shape}"
            )
        return mask

    def _is_position(self, key: Any) -> bool:
        sizes = [self.shape[self.axes.index(letter)] for letter in self.leading_axes]
        return (
            isinstance(key, tuple)
            and len(key) == len(sizes)
            and all(0 <= at < size for at, size in zip(key, sizes, strict=True))
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes, in the order of `axes`."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    @property
    def channel_axis(self) -> int | None:
        """Index of the axis that holds channels or RGB samples, None if there is none."""
        return next((i for i, letter in enumerate(self.axes) if letter in CHANNEL_AXES), None)

    @property
    def n_channels(self) -> int:
        """Number of channels; 1 where there is no channel axis."""
        axis = self.channel_axis
        return 1 if axis is None else int(self.data.shape[axis])

    @property
    def height_width(self) -> tuple[int, int]:
        """Sizes of ``Y`` and ``X`` in pixels."""
        return self.data.shape[self.axes.index("Y")], self.data.shape[self.axes.index("X")]

    @property
    def leading_axes(self) -> str:
        """Axes other than channels, ``Y`` and ``X``: each step along them is a plane."""
        return "".join(letter for letter in self.axes if letter not in CHANNEL_AXES + "YX")

    @property
    def n_planes(self) -> int:
        """Number of planes: the product of the sizes of the leading axes."""
        return int(np.prod([self.shape[self.axes.index(a)] for a in self.leading_axes], dtype=int))

    def planes(self) -> Iterator[tuple[dict[str, int], Image]]:
        """Go over the planes in order, the last leading axis fastest.

        Yields
        ------
        index : dict of str to int
            Position along each leading axis; empty if there is none.
        plane : Image
            That plane with its objects, ``"YX"`` with a channel axis where this image has one.
            Nothing is read from a dask array before the plane is used.
        """
        leading = self.leading_axes
        sizes = [self.shape[self.axes.index(letter)] for letter in leading]
        for position in product(*(range(size) for size in sizes)):
            index = dict(zip(leading, position, strict=True))
            yield index, self.plane(index)

    def plane(self, index: Mapping[str, int]) -> Image:
        """Return the plane at a position.

        Parameters
        ----------
        index : mapping of str to int
            Position along each leading axis; those of length 1 may be left out.

        Returns
        -------
        Image
            As `planes` gives it.

        Raises
        ------
        AxesError
            If the image has no such plane.
        """
        leading = self.leading_axes
        index = dict(zip(leading, self.position(index), strict=True))
        key = tuple(index.get(letter, slice(None)) for letter in self.axes)
        axes = "".join(letter for letter in self.axes if letter not in leading)
        objects = self._objects_at(index)
        return replace(self, data=self.data[key], axes=axes, objects=objects)

    def position(self, index: Mapping[str, int]) -> tuple[int, ...]:
        """Return where a plane is along each leading axis, in their order.

        Parameters
        ----------
        index : mapping of str to int
            As for `plane`.

        Returns
        -------
        tuple of int
            A key of `objects`.

        Raises
        ------
        AxesError
            If the image has no such plane.
        """
        sizes = {letter: self.shape[self.axes.index(letter)] for letter in self.leading_axes}
        name, asked = self.source or "the image", position_text(index)[1:-1]
        for letter, number in index.items():
            # Readers drop axes of one plane.
            if letter not in sizes and (number or letter in CHANNEL_AXES):
                raise AxesError(
                    f"{name} has no axis {letter.lower()} (its axes: {self.axes}), so there is no "
                    f"plane {asked}; name only axes that the image has"
                )
        for letter, size in sizes.items():
            axis = letter.lower()
            if letter not in index and size > 1:
                raise AxesError(
                    f"{name} has {size} planes along {axis}; say which of them, from {axis}=0 to "
                    f"{axis}={size - 1}"
                )
            if not 0 <= index.get(letter, 0) < size:
                raise AxesError(
                    f"{name} has no plane {asked}: along {axis} its planes are numbered from 0 to "
                    f"{size - 1}"
                )
        return tuple(index.get(letter, 0) for letter in sizes)

    def _objects_at(self, index: Mapping[str, int]) -> Any:
        if self.objects is None or not index:
            return self.objects
        if isinstance(self.objects, Mapping):
            return tuple(self.objects.get(tuple(index[letter] for letter in self.leading_axes), ()))
        if isinstance(self.objects, tuple):
            return self.objects
        axes = (letter for letter in self.axes if letter not in CHANNEL_AXES)
        return self.objects[tuple(index.get(letter, slice(None)) for letter in axes)]

    def find_objects(self) -> tuple[ImageObject, ...]:
        """Find the objects of an image of one plane.

        Returns
        -------
        tuple of ImageObject
            Those of a mask in order of number, others in their own order; none if it has none.

        Raises
        ------
        ImageError
            If its mask is not of whole numbers.
        """
        if self.objects is None:
            return ()
        if isinstance(self.objects, tuple):
            return self.objects
        if isinstance(self.objects, Mapping):
            return tuple(self.objects.get((), ()))
        mask = np.asarray(self.objects)
        try:
            return objects_in_mask(mask.T if self.axes.index("X") < self.axes.index("Y") else mask)
        except ImageError as error:
            raise ImageError(f"{self.source}: {error}" if self.source else str(error)) from error

    def to_cyx(self) -> NDArray[Any]:
        """Return one plane's pixels with the channels first.

        Returns
        -------
        ndarray, shape (C, Y, X)
            In the image's own dtype; read now, if it was lazy.

        Raises
        ------
        AxesError
            If the image has several planes.
        """
        if self.leading_axes:
            raise AxesError(
                f"an image with axes {self.axes} holds {self.n_planes} planes; classify it plane "
                "by plane (Image.planes)"
            )
        pixels = np.asarray(self.data)
        order = [self.axes.index(letter) for letter in "CSYX" if letter in self.axes]
        pixels = pixels.transpose(order)
        return pixels if pixels.ndim == 3 else pixels[np.newaxis]

    def _default_channels(self) -> tuple[str, ...]:
        count = self.n_channels
        if "S" in self.axes and count in (3, 4):
            return RGB_NAMES[:count]
        return ("",) * count


def _check_axes(axes: str, ndim: int) -> None:
    if len(axes) != ndim:
        raise AxesError(
            f"axes {axes!r} name {len(axes)} dimensions, but the array has {ndim}; "
            "give one letter for each dimension"
        )
    if not (axes.isalpha() and axes.isupper() and axes.isascii()) or len(set(axes)) != len(axes):
        raise AxesError(f"axes {axes!r} must be different upper-case letters, such as 'CYX'")
    if "Y" not in axes or "X" not in axes:
        raise AxesError(f"axes {axes!r} lack Y or X; an image needs both, such as 'CYX'")
    if "C" in axes and "S" in axes:
        raise AxesError(
            f"axes {axes!r} have channels (C) and RGB samples (S) at once; "
            "split the image or convert RGB to grey first"
        )


def check_sides(sides: Sequence[int], where: object) -> None:
    """Refuse an image so long that it would take minutes to resize; `sides`: in pixels."""
    if max(sides, default=0) > LONGEST_SIDE:
        raise ImageTooLargeError(
            f"{where}: one of its sides is {max(sides)} pixels long; give parts of at most "
            f"{LONGEST_SIDE} pixels a side"
        )


def _check_array(data: Any) -> None:
    if 0 in data.shape:
        raise ImageError(f"an array of shape {tuple(data.shape)} holds no pixels")
    if np.dtype(data.dtype).kind not in "buif":
        raise ImageError(
            f"pixels of type {data.dtype} cannot be classified; "
            "convert them to integers or floating-point numbers"
        )


def collapse_grey(image: Image) -> Image:
    """Turn colours that are equal on every pixel into one channel, with or without transparency.

    Examples
    --------
    >>> grey = collapse_grey(Image(np.ones((4, 5, 3), "uint8"), "YXS"))
    >>> grey.shape, grey.channels
    ((4, 5), ('grey',))
    """
    names = tuple(image.channels)
    if "S" not in image.axes or names not in (RGB_NAMES, RGB_NAMES[:3], (GREY, "alpha")):
        return image
    samples = np.moveaxis(np.asarray(image.data), image.axes.index("S"), 0)
    if names[0] != GREY and not _all_equal(samples[:3]):
        return image
    return replace(image, data=samples[0], axes=image.axes.replace("S", ""), channels=(GREY,))


def _all_equal(colours: NDArray[Any]) -> bool:
    # A few rows tell of nearly every image in colours that it is not grey.
    few = (..., slice(None, None, max(1, colours.shape[-2] // 8)), slice(None))
    return all(
        np.array_equal(colours[0][part], other[part])
        for part in (few, ...)
        for other in colours[1:]
    )


def rotate_image(image: Image, degrees: float, frame: Literal["keep", "grow"] = "keep") -> Image:
    """Turn one plane counter-clockwise by a fixed angle.

    `degrees`: the angle. Multiples of 90 move pixels without changing them where the frame may
    grow, or the image is square.

    Examples
    --------
    >>> rotate_image(Image(np.zeros((4, 10)), "YX"), 90, "grow").data.shape
    (1, 10, 4)
    """
    planes = image.to_cyx()
    turned = np.stack([_rotate(plane, degrees, frame) for plane in planes])
    return replace(image, data=turned, axes="CYX", pixel_size=None)


def _rotate(plane: NDArray[np.generic], degrees: float, frame: str) -> NDArray[np.generic]:
    quarters, rest = divmod(degrees % 360, 90)
    if rest == 0 and (frame == "grow" or quarters == 2 or plane.shape[0] == plane.shape[1]):
        return np.ascontiguousarray(np.rot90(plane, int(quarters)))
    from skimage.transform import rotate

    turned = rotate(
        plane.astype(np.float32),
        degrees,
        resize=frame == "grow",
        order=1,
        cval=float(plane.min()),
        preserve_range=True,
    )
    if np.issubdtype(plane.dtype, np.integer):
        turned = np.rint(turned)
    return np.asarray(turned.astype(plane.dtype))
