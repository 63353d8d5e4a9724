"""Labelled images written as files in folders: split, brightened and turned as for training.

Other programs read such folders. The table beside them leads back to the originals, and is itself
a data set: read again, it gives the pixels that were written.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.image import RGB_NAMES, Image, rotate_image
from napari_cellclf.core.normalization import ScaleLinear
from napari_cellclf.core.objects import Plane, position_text
from napari_cellclf.core.preprocessing import Preprocessing, central
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
    watched,
)
from napari_cellclf.errors import CancelledError, DatasetError, ImageError, InputError
from napari_cellclf.io.dataset_tables import write_dataset_csv
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

Format = Literal["png", "tif"]

#: What the folders are called.
TABLE = "dataset.csv"
#: What no file system, or not every one, takes in a name.
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
#: Devices of Windows, which no file or folder there may be called.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
#: Bytes of a name; file systems take 255, and endings and numbers come behind it.
_LONGEST_NAME = 200
#: The channel in the name of the file that stands for an image of several files.
_CHANNEL = re.compile(r"[-_ ]?(?:w|ch?)\d+$", re.IGNORECASE)
_PNG = ("uint8", "uint16")
_OME = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")


@dataclass(frozen=True)
class WriteOptions:
    """How images are changed before they are written."""

    #: Applied to the pixels; none leaves their numbers as they are.
    brightness: ScaleLinear | None = None
    #: Angles by which training images are turned besides, in degrees counter-clockwise.
    rotations: tuple[float, ...] = ()
    frame: Literal["keep", "grow"] = "keep"
    #: Fraction of height and width, in the middle, that is written.
    centre: float = 1.0
    #: 8 or 16; none keeps the type of each image, or 8 where brightness is made for 8.
    bits: Literal[8, 16] | None = None
    #: None writes PNG where a PNG can hold the image, else TIFF.
    format: Format | None = None


@dataclass(frozen=True)
class WrittenImages:
    """What was written."""

    #: The files that were written.
    dataset: Dataset
    #: Paths that are left out, and why.
    bad: tuple[tuple[str, str], ...]


def write_images(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    options: WriteOptions,
    *,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> WrittenImages:
    """Write a split data set as ``train``, ``validation`` and ``test`` with a folder a class.

    The folder must not exist, or be empty; it is there in the end with all images and the table
    ``dataset.csv``, or not at all.
    """
    out = check_new_folder(folder)
    if dataset.has_objects:
        raise DatasetError(
            "objects are not written as images of their own; leave out --write, training cuts them "
            "out itself"
        )
    if (dataset.table["split"] == "").any():
        raise DatasetError("some images belong to no part of the split; split the data first")
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        written = _Writer(dataset, beside, options).write(on_progress, should_stop)
        if not len(written.dataset):
            raise DatasetError(f"none of the images can be written; the first: {written.bad[0][1]}")
        write_dataset_csv(written.dataset, beside / TABLE, beside)
        if out.exists():
            out.rmdir()
        beside.rename(out)
    except OSError as error:
        raise InputError(
            f"the images cannot be written to {out} ({error.strerror or error}); choose a folder "
            "that is writable and has room"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    moved = [str(out / Path(path).relative_to(beside)) for path in written.dataset.paths]
    table = written.dataset.table.assign(path=moved)
    return replace(written, dataset=replace(written.dataset, table=table))


def check_new_folder(folder: str | os.PathLike[str], data: Path | None = None) -> Path:
    """Return where images are written; refuse a folder with files, or one within the `data`."""
    out = Path(os.path.abspath(folder))  # noqa: PTH100
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already; choose a folder that is new or empty")
    if data is not None and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InputError(
            f"{out} is within {data}, where what is written would be taken for more data; choose a "
            "folder beside it"
        )
    return out


class _Writer:
    """Writes images one after the other and notes where they went."""

    def __init__(self, dataset: Dataset, folder: Path, options: WriteOptions) -> None:
        self._dataset = dataset
        self._folder = folder
        self._options = options
        self._root = Path(os.path.commonpath([str(Path(p).parent) for p in dataset.paths]))
        self._classes = _folder_names(dataset.class_names)
        self._taken: set[Path] = set()
        # The planes of a stack mostly follow one another.
        self._read = lru_cache(1)(partial(read_image, naming=dataset.naming))

    def write(self, on_progress: OnProgress, should_stop: ShouldStop) -> WrittenImages:
        import pandas as pd

        rows: list[dict[str, Any]] = []
        bad: list[tuple[str, str]] = []

        def on_part(what: str, fraction: float) -> None:
            if should_stop():
                raise CancelledError("stopped while writing the images; none is kept")

        table = self._dataset.table.to_dict("records")
        for number, row in enumerate(table, start=1):
            on_part("writing", 0)
            try:
                with watched(on_part):
                    named = {str(key): value for key, value in row.items()}
                    rows += self._write_row(named, self._dataset.planes[number - 1])
            except InputError as error:
                bad.append((self._dataset.plane_ids[number - 1], str(error)))
            on_progress(Progress(number, len(table), f"writing {row['path']}"))
        own = self._dataset.table.columns
        # Each plane is a file of its own now.
        kept = [name for name in own if name != "plane" or not self._dataset.has_planes]
        columns = [*kept, "original", "turned", "brightness"]
        written = replace(self._dataset, table=pd.DataFrame(rows, columns=columns), naming=None)
        return WrittenImages(written, tuple(bad))

    def _write_row(self, row: dict[str, Any], plane: Plane) -> Iterator[dict[str, Any]]:
        """Write an image and its turned copies; all of them are read before one is written."""
        image = self._read(row["path"])
        image = image.plane(dict(plane)) if plane else image
        options = self._options
        angles = options.rotations if row["split"] == "train" else ()
        turned = [(0.0, image)] + [(a, rotate_image(image, a, options.frame)) for a in angles]
        changed = [(angle, _changed(one, options)) for angle, one in turned]
        factor = 1.0 if options.brightness is None else options.brightness.factor
        for angle, one in changed:
            ending = options.format or ("png" if _fits_png(one) else "tif")
            if ending == "png" and not _fits_png(one):
                raise ImageError(
                    f"{row['path']}: {one.n_channels} channels of {one.dtype} do not fit into a "
                    "PNG; write TIFF, or 8 or 16 bits"
                )
            path = self._place(row, angle, factor, ending, plane)
            _write(one, path)
            yield row | {
                "path": str(path),
                "original": str(row["path"]) + position_text(dict(plane)),
                "turned": f"{angle:g}",
                "brightness": f"{factor:g}",
            }

    def _place(
        self, row: dict[str, str], angle: float, factor: float, ending: str, plane: Plane
    ) -> Path:
        """Choose a file name that says where it came from and is not taken yet."""
        original = Path(row["path"])
        named = named_image(original, self._dataset.naming)
        stem = PurePath(original.relative_to(self._root)).with_suffix("").as_posix()
        if named is not None and named.has_channels:
            stem = _CHANNEL.sub("", stem)
        # The words of the second project, which its naming scheme reads.
        words = [f"{axis.lower()}{step}" for axis, step in plane]
        words += [f"MULTIPLIED-{factor:g}"] if factor != 1 else []
        words += [f"ROTATED-{angle:g}"] if angle else []
        *above, last = stem.split("/")
        # Without folders that the written path says already.
        parts = [part for part in above if part not in (row["label"], row["split"])]
        name = _UNSAFE.sub("_", "-".join([_end("_".join([*parts, last])), *words]))
        folder = self._folder / row["split"] / self._classes[row["label"]]
        path, number = folder / f"{name}.{ending}", 2
        while path in self._taken:
            path, number = folder / f"{name}_{number}.{ending}", number + 1
        self._taken.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _folder_names(labels: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for label in labels:
        safe = _DEVICE.sub(r"\1_", _end(_UNSAFE.sub("_", label)).strip(". ") or "_", count=1)
        while safe.lower() in {name.lower() for name in names.values()}:
            safe += "_"
        names[label] = safe
    return names


def _end(name: str) -> str:
    """Return what a file system takes of a name: its end, which tells more than its beginning."""
    while len(os.fsencode(name)) > _LONGEST_NAME:
        name = name[1:]
    return name


def _changed(image: Image, options: WriteOptions) -> Image:
    """Crop and brighten one plane; (C, Y, X) in the type that is written."""
    cyx = central(image.to_cyx(), options.centre)
    cropped = replace(image, data=cyx, axes="CYX")
    bits = options.bits or (8 if options.brightness and options.brightness.eight_bit else None)
    keeps = options.brightness is None and image.white is None and image.dtype != bool
    if keeps and (bits is None or image.dtype == f"uint{bits}"):
        return cropped
    if bits is None:
        bits = 8 if image.dtype in (np.uint8, bool) else 16
    scale = options.brightness or ScaleLinear()
    # Each by itself, whatever it is called.
    names = [f"channel {number}" for number in range(1, image.n_channels + 1)]
    prepare = Preprocessing(
        channels=tuple(ChannelSpec(name=name) for name in names), normalization=scale
    )
    bright = prepare(replace(cropped, channels=names))
    pixels = np.rint(np.moveaxis(bright, -1, 0) * (2**bits - 1)).astype(f"uint{bits}")
    return replace(cropped, data=pixels, white=None)


def _fits_png(image: Image) -> bool:
    in_colour = tuple(image.channels) in (RGB_NAMES, RGB_NAMES[:3])
    return image.dtype.name in _PNG and (image.n_channels == 1 or in_colour)


def _write(image: Image, path: Path) -> None:
    import imagecodecs
    import tifffile

    pixels: NDArray[Any] = np.asarray(image.data)
    in_colour = tuple(image.channels) in (RGB_NAMES, RGB_NAMES[:3])
    if in_colour:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = np.ascontiguousarray(pixels[0] if image.n_channels == 1 else pixels)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    elif in_colour:
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib")
    else:
        metadata: dict[str, Any] = {"axes": "YX" if pixels.ndim == 2 else "CYX"}
        named = any(image.channels)
        if named:
            metadata["Channel"] = {"Name": list(image.channels)}
        if named and pixels.dtype.name not in _OME:
            raise ImageError(
                f"{image.source}: {pixels.dtype} with names of channels cannot be written; add "
                "--bits 16"
            )
        tifffile.imwrite(
            path, pixels, ome=named, photometric="minisblack", compression="zlib", metadata=metadata
        )
