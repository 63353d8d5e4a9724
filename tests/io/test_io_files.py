from __future__ import annotations

import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

import napari_cellclf as cc
from napari_cellclf.errors import ImageError, InputError, UnreadableImageError
from napari_cellclf.io.decoding import human_bytes, limit_or_default
from napari_cellclf.io.files import read_file
from napari_cellclf.io.local_paths import expanded, is_hidden

PIXELS = np.arange(72, dtype=np.uint8).reshape(9, 8)


@pytest.mark.parametrize("ending", [".tif", ".png", ".jpg", ".dat", ""])
@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg"])
def test_content_decides_not_the_ending(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    if kind == "tiff":
        tifffile.imwrite(path, PIXELS)
    else:
        encode = imagecodecs.png_encode if kind == "png" else imagecodecs.jpeg8_encode
        path.write_bytes(encode(PIXELS))
    image = read_file(path)
    assert image.shape == (9, 8)
    assert image.source == str(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"  <HTML><body>", "web page"),
        (b"hello, this is text", "not a TIFF, PNG, JPEG or BMP"),
        (b"\x89PNG\r\n\x1a\n", "incomplete"),
        (b"\xff\xd8\xff\xe0", "incomplete"),
        (b"II*\0", "damaged"),
    ],
)
def test_what_is_not_an_image_says_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason) as error:
        read_file(path)
    assert str(path) in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="there is no such file"):
        read_file(tmp_path / "missing.tif")
    with pytest.raises(UnreadableImageError, match="is a folder"):
        read_file(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.tif")
        with pytest.raises(UnreadableImageError):
            read_file(tmp_path / "pipe.tif")


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/x.tif",
        "s3://bucket/x.png",
        "hf://x",
        "file:///x.tif",
        Path("s3://bucket/x.png"),
        "simplecache::x.tif",
        "",
        "a\0b.tif",
    ],
)
def test_addresses_are_refused(address: str | Path) -> None:
    with pytest.raises(ImageError, match=r"URL|address of a file|not a path"):
        cc.read_image(address)


def test_a_name_with_a_newline_stays_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a\nb é.png"
    path.write_bytes(imagecodecs.png_encode(PIXELS))
    assert read_file(path).shape == (9, 8)


@pytest.mark.parametrize("limit", [0, -1, "many"])
def test_a_limit_that_is_none_is_refused(limit: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_MAX_IMAGE_BYTES", str(limit))
    with pytest.raises(InputError, match="above 0"):
        limit_or_default(None)


@pytest.mark.parametrize(
    ("count", "said"), [(1, "1 bytes"), (2048, "2.0 KiB"), (3 * 2**20, "3.0 MiB")]
)
def test_human_bytes(count: int, said: str) -> None:
    assert human_bytes(count) == said


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        (".ipynb_checkpoints", True),
        ("._x.tif", True),
        ("spindle-checkpoint", False),
        ("x.tif", False),
        ("checkpoint.tif", False),
    ],
)
def test_is_hidden(name: str, hidden: bool) -> None:
    assert is_hidden(name) is hidden


@pytest.mark.parametrize("path", [5, None, b"x.tif"])
def test_what_is_no_path_is_refused_in_one_sentence(path: object) -> None:
    with pytest.raises(InputError, match=r"is not a path; give one as text"):
        cc.read_image(path)


def test_an_image_may_take_a_gibibyte_unless_more_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CELLCLF_MAX_IMAGE_BYTES", raising=False)
    assert limit_or_default(None) == 2**30
    monkeypatch.setenv("CELLCLF_MAX_IMAGE_BYTES", str(2**33))
    assert limit_or_default(None) == 2**33


def test_a_home_that_nobody_has_is_left_as_it_was_typed() -> None:
    assert expanded("~") == Path.home()
    assert expanded("~/models") == Path.home() / "models"
    assert expanded("~nobody-of-that-name/x.keras") == Path("~nobody-of-that-name/x.keras")
    assert expanded(Path("plain")) == Path("plain")
