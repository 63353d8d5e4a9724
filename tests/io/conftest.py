"""Small files of every kind, made for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError
from napari_cellclf.io.files import read_file

MakePlate = Callable[..., Path]
ReadOrError = Callable[..., Image | ImageError]


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    return path


@pytest.fixture(scope="session")
def read_or_error() -> ReadOrError:
    """Read a file that may be damaged; anything but one of our errors is a failure."""

    def read(path: Path, **options: int) -> Image | ImageError:
        try:
            return read_file(path, **options)
        except ImageError as error:
            return error

    return read


def plane(value: int, size: int = 6) -> np.ndarray:
    """A plane that tells by its corner which it is."""
    pixels = np.arange(size * size, dtype=np.uint8).reshape(size, size)
    pixels[0, 0] = value
    return pixels


@pytest.fixture
def make_site(tmp_path: Path) -> MakePlate:
    def make(
        folder: str = "HUVEC-01/Plate1",
        well: str = "B02",
        site: int = 1,
        channels: Iterable[int] = range(1, 7),
        size: int = 6,
    ) -> Path:
        parent = tmp_path / folder
        for channel in channels:
            write_png(parent / f"{well}_s{site}_w{channel}.png", plane(100 + channel, size))
        return parent

    return make
