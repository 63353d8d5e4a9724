"""What an OME-XML header says, read without following it to other files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from napari_cellclf.core.counting import counted
from napari_cellclf.errors import UnreadableImageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from napari_cellclf.io.memory import AnyFile

#: Micrometres in a unit of length (OME model, UnitsLength; ImageJ writes some of them in words).
MICROMETRES = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "å": 1e-4,
    "inch": 25_400.0,
    "in": 25_400.0,
}


@dataclass(frozen=True)
class OmeHeader:
    """The parts of an OME-XML header that tell what the pixels are."""

    #: Names of the first image's channels, empty where one has none.
    channels: tuple[str, ...]
    #: Height and width of a pixel in micrometres.
    pixel_size: tuple[float, float] | None
    #: Whether it says that some of its planes are in other files.
    points_outside: bool
    #: For such a set of files, position (T, Z, C) of each page of this one, in order; empty if the
    #: header does not say.
    own_planes: tuple[tuple[int, int, int], ...] = ()
    #: How many bits of each number the camera filled, if it says.
    significant_bits: int | None = None


def parse_ome(xml: str, path: AnyFile, n_pages: int) -> OmeHeader | None:
    """Read an OME-XML header.

    Returns none if the text is not OME-XML with pixels.
    """
    pixels, uuid = _first_pixels(xml)
    if pixels is None:
        return None
    # Each Image has its own Pixels; all of them share the pages of the file.
    entries = [child for child in pixels if _is(child, "TiffData")]
    outside = [entry for entry in entries if _is_elsewhere(entry, path.name, uuid)]
    header = OmeHeader(
        _channel_names(pixels),
        _pixel_size(pixels),
        bool(outside),
        significant_bits=_number(pixels, "SignificantBits", 0) or None,
    )
    if outside:
        own = [entry for entry in entries if entry not in outside]
        return replace(header, own_planes=_own_planes(pixels, own, n_pages))
    declared = _declared_planes(pixels)
    if entries and declared > n_pages:
        raise UnreadableImageError(
            f"{path}: its OME header declares {counted(declared, 'plane')}, but the file has "
            f"{counted(n_pages, 'page')}; "
            "it is incomplete, copy it again"
        )
    return header


def _first_pixels(xml: str) -> tuple[Element | None, str | None]:
    from xml.etree import ElementTree

    # A document type is the way to make a short text expand without end; OME has none.
    if "<!DOCTYPE" in xml:
        return None, None
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return None, None
    for image in root:
        for child in image:
            if _is(image, "Image") and _is(child, "Pixels"):
                return child, root.get("UUID")
    return None, None


def _is(element: Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name


def _is_elsewhere(entry: Element, file_name: str, root_uuid: str | None) -> bool:
    for child in entry:
        if _is(child, "UUID"):
            if root_uuid is not None and child.text == root_uuid:
                return False
            named = child.get("FileName", "")
            return bool(named or child.text) and named.lower() != file_name.lower()
    return False


def _channel_names(pixels: Element) -> tuple[str, ...]:
    return tuple(child.get("Name", "") for child in pixels if _is(child, "Channel"))


def _pixel_size(pixels: Element) -> tuple[float, float] | None:
    sizes = []
    for axis in "YX":
        # The OME model's default unit is the micrometre.
        unit = MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        try:
            size = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            return None
        if unit is None or not math.isfinite(size) or size <= 0:
            return None
        sizes.append(size * unit)
    return sizes[0], sizes[1]


def _number(element: Element, name: str, default: int) -> int:
    try:
        return int(element.get(name, default))
    except ValueError:
        return default


def _samples(pixels: Element) -> int:
    channels = [child for child in pixels if _is(child, "Channel")]
    return max(_number(channels[0], "SamplesPerPixel", 1), 1) if channels else 1


def _declared_planes(pixels: Element) -> int:
    """Count the planes that sizes and TiffData entries declare, whichever are more."""
    sizes = math.prod(_number(pixels, f"Size{axis}", 1) for axis in "ZCT")
    ends = [
        _number(child, "IFD", 0) + _number(child, "PlaneCount", _number(child, "NumPlanes", 1))
        for child in pixels
        if _is(child, "TiffData")
    ]
    return max([sizes // _samples(pixels), *ends])


def _own_planes(
    pixels: Element, entries: list[Element], n_pages: int
) -> tuple[tuple[int, int, int], ...]:
    """Say where this file's pages belong, if the entries say it of all of them."""
    order = pixels.get("DimensionOrder", "XYZCT")[2:]
    sizes = {axis: _number(pixels, f"Size{axis}", 1) for axis in "ZCT"}
    if sorted(order) != ["C", "T", "Z"] or math.prod(sizes.values()) > 10**6:
        return ()
    # The last letter of DimensionOrder varies slowest.
    sequence = list(product(*(range(sizes[axis]) for axis in reversed(order))))
    planes: dict[int, tuple[int, int, int]] = {}
    for entry in entries:
        first = tuple(_number(entry, f"First{axis}", 0) for axis in reversed(order))
        if first not in sequence:
            return ()
        start, ifd = sequence.index(first), _number(entry, "IFD", 0)
        count = _number(entry, "PlaneCount", _number(entry, "NumPlanes", 1))
        for offset, position in enumerate(sequence[start : start + min(count, n_pages)]):
            at = dict(zip(reversed(order), position, strict=True))
            planes[ifd + offset] = (at["T"], at["Z"], at["C"])
    if set(planes) != set(range(n_pages)):
        return ()
    return tuple(planes[page] for page in range(n_pages))
