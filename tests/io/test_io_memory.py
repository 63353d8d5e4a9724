"""Files from memory are read as those on a disk, and grouped by what their names say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import png_encode

from napari_cellclf.errors import ImageError, ImageTooLargeError, InputError, UnreadableImageError
from napari_cellclf.io.files import read_file, read_memory
from napari_cellclf.io.memory import MemoryFile
from napari_cellclf.io.read import read_image
from napari_cellclf.io.uploaded_files import upload_sources


def _pixels(seed: int = 0, shape: tuple[int, ...] = (9, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def _tiff(pixels: np.ndarray, **fields: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **fields)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grey.png", png_encode(_pixels())),
        ("colour.png", png_encode(_pixels(1, (9, 8, 3)))),
        ("plain.tif", _tiff(_pixels())),
        ("stack.tif", _tiff(_pixels(2, (3, 9, 8)), imagej=True, metadata={"axes": "TYX"})),
        (
            "named.ome.tif",
            _tiff(
                _pixels(3, (2, 9, 8)), ome=True,
                metadata={"axes": "CYX", "Channel": {"Name": ["DNA", "actin"]}},
            ),
        ),
    ],
)  # fmt: skip
def test_they_are_read_alike(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    on_disk, sent = read_file(tmp_path / name), read_memory(MemoryFile(name, content))
    np.testing.assert_array_equal(sent.data, on_disk.data)
    assert (sent.axes, sent.channels, sent.pixel_size) == (
        on_disk.axes, on_disk.channels, on_disk.pixel_size,
    )  # fmt: skip
    assert sent.source == name


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", UnreadableImageError),
        (b"<html>", UnreadableImageError),
        (png_encode(_pixels())[:-20], UnreadableImageError),
        (_tiff(_pixels(0, (64, 64)))[:-800], UnreadableImageError),
        (png_encode(_pixels(0, (50, 50))), ImageTooLargeError),
        (_tiff(_pixels(0, (50, 50))), ImageTooLargeError),
    ],
)
def test_they_are_refused_alike(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(error) as on_disk:
        read_file(tmp_path / "x", limit_bytes=2000 if error is ImageTooLargeError else None)
    with pytest.raises(error) as sent:
        read_memory(
            MemoryFile("x", content), limit_bytes=2000 if error is ImageTooLargeError else None
        )
    assert str(sent.value) == str(on_disk.value).replace(f"{tmp_path}/", "")


@given(st.permutations([(w, s, c) for w in ("B02", "C11") for s in (1, 2) for c in (1, 3)]))
def test_sites_are_put_together_whatever_the_order(names: list[tuple[str, int, int]]) -> None:
    files = [MemoryFile(f"{w}_s{s}_w{c}.png", b"") for w, s, c in names]
    sources = upload_sources(files)
    assert {source.id for source in sources} == {
        f"{w}_s{s}_w1.png" for w in ("B02", "C11") for s in (1, 2)
    }
    first = names[0]
    assert sources[0].id == f"{first[0]}_s{first[1]}_w1.png"


def test_a_site_is_what_it_is_on_a_disk(tmp_path: Path) -> None:
    files = [MemoryFile(f"B02_s1_w{c}.png", png_encode(_pixels(c))) for c in (4, 1)]
    for file in files:
        (tmp_path / file.name).write_bytes(file.content)
    (source,) = upload_sources(files)
    sent, on_disk = source.read(), read_image(tmp_path / "B02_s1_w1.png")
    np.testing.assert_array_equal(sent.data, on_disk.data)
    assert sent.channels == on_disk.channels == ("w1 Hoechst", "w4 Syto14")
    assert source.metadata["missing_channels"] == on_disk.metadata["missing_channels"]


def test_an_embryos_name_is_read_and_its_equal_colours_are_one(tmp_path: Path) -> None:
    name = "Stage(060)-20230811-Cycle00-embryo03-3.png"
    content = png_encode(np.stack([_pixels()] * 3, axis=-1))
    (source,) = upload_sources([MemoryFile(name, content)])
    assert source.metadata["minute"] == 60
    assert source.read().axes == "YX"


def test_named_files_are_one_image() -> None:
    files = [MemoryFile("a.png", png_encode(_pixels(1))), MemoryFile("b.tif", _tiff(_pixels(2)))]
    (source,) = upload_sources(files, channels=["DNA", "actin"])
    assert source.read().channels == ("DNA", "actin")
    with pytest.raises(InputError, match=r"1 channel \(DNA\)"):
        upload_sources(files, channels=["DNA"])


def test_files_that_do_not_go_together() -> None:
    first = MemoryFile("B02_s1_w1.png", png_encode(_pixels()))
    other = MemoryFile("B02_s1_w2.png", png_encode(_pixels(0, (4, 4))))
    with pytest.raises(ImageError, match="one size"):
        upload_sources([first, other])[0].read()
    coloured = MemoryFile("B02_s1_w2.png", png_encode(_pixels(0, (9, 8, 3))))
    with pytest.raises(UnreadableImageError, match="grey"):
        upload_sources([first, coloured])[0].read()
    with pytest.raises(InputError, match="twice"):
        upload_sources([first, first])


def test_channels_together_are_no_larger_than_one_file_may_be() -> None:
    files = [MemoryFile(f"B02_s1_w{c}.png", png_encode(_pixels(c, (50, 50)))) for c in (1, 2, 3)]
    assert upload_sources(files, limit_bytes=9000)[0].read().data.shape == (3, 50, 50)
    with pytest.raises(ImageTooLargeError, match=r"up to B02_s1_w3.*6\.8 KiB"):
        upload_sources(files, limit_bytes=7000)[0].read()
    with pytest.raises(ImageTooLargeError, match=r"up to B02_s1_w3.*6\.8 KiB"):
        upload_sources(files, channels=["a", "b", "c"], limit_bytes=7000)[0].read()


def _pages(count: int) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for index in range(count):
            writer.write(np.zeros((1, 1 + index % 7), np.uint8), metadata=None)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (_pages(1025), "1025 pages"),
        (_tiff(_pixels(), description="a" * (2**22 + 1), metadata=None), "header of 4.0 MiB"),
    ],
)
def test_a_tiff_that_takes_long_to_look_through(content: bytes, what: str) -> None:
    with pytest.raises(ImageTooLargeError, match=what):
        read_memory(MemoryFile("x.tif", content))
