from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, ImageTooLargeError, UnreadableImageError
from napari_cellclf.io.files import read_file, read_header
from napari_cellclf.io.raster import read_png

FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def pillow_bytes(pixels: np.ndarray, mode: str | None = None, **options: object) -> bytes:
    image = PillowImage.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, **options)
    return buffer.getvalue()


def png_of(pixels: bytes, side: int, tail: bytes = b"") -> bytes:
    """Write a grey PNG whose compressed data are those given, and a tail of them."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", pixels), (b"IDAT", tail), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [64, 1400])
def test_data_that_go_on_behind_the_last_pixel_are_not_inflated(tmp_path: Path, side: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (side, side + 1), np.uint8)
    rows[:, 0] = 0
    packer = zlib.compressobj(9)
    honest = packer.compress(rows.tobytes()) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path = tmp_path / "x.png"
    # 8 GiB of zeros would take half a minute.
    path.write_bytes(png_of(honest, side, zeros * 2**13))
    with pytest.raises(UnreadableImageError, match="go on behind its last pixel"):
        read_file(path)
    path.write_bytes(png_of(zlib.compress(rows.tobytes()), side))
    np.testing.assert_array_equal(read_file(path).data, rows[:, 1:])


def test_a_large_image_that_compresses_well_is_no_trick(tmp_path: Path) -> None:
    pixels = np.zeros((5000, 5000), np.uint8)
    pixels[:, ::3] = np.arange(5000, dtype=np.uint8)[:, np.newaxis] // 7
    pixels[:900] = np.random.default_rng(0).integers(0, 256, (900, 5000), np.uint8)
    path = tmp_path / "x.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    np.testing.assert_array_equal(read_file(path).data, pixels)


@FAST
@given(
    plane=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    samples=st.sampled_from([1, 2, 3, 4]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    seed=st.integers(0, 100),
)
def test_png_round_trip_is_exact(
    tmp_path: Path, plane: tuple[int, int], samples: int, dtype: str, seed: int
) -> None:
    shape = plane if samples == 1 else (*plane, samples)
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)
    path = tmp_path / "x.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    # Below the rule that equal colours are one channel.
    image = read_png(path, 2**20)
    assert image.axes == ("YX" if samples == 1 else "YXS")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.data, pixels)
    header = read_header(path)
    assert (header.shape, header.axes, header.dtype) == (image.shape, image.axes, image.dtype)


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (9, 8, 3), np.uint8)
    path = tmp_path / "x.png"
    palette = PillowImage.fromarray(colours).quantize(16)
    palette.save(path)
    np.testing.assert_array_equal(read_file(path).data, np.asarray(palette.convert("RGB")))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    mask = np.eye(9, dtype=bool)
    PillowImage.fromarray(mask).save(path)
    np.testing.assert_array_equal(read_file(path).data, mask * np.uint8(255))


def test_interlaced_png(tmp_path: Path) -> None:
    # Adam7 of a 1x1 image is its first pass alone.
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\x00\x2a")), (b"IEND", b"")]
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    assert read_file(path).data.tolist() == [[42]]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path: Path, mode: str, progressive: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    data = pillow_bytes(pixels, mode, format="JPEG", progressive=progressive)
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    image = read_file(path)
    assert image.axes == ("YX" if mode == "L" else "YXS")
    # Decoders of the same libjpeg agree.
    np.testing.assert_allclose(
        image.data, np.asarray(PillowImage.open(io.BytesIO(data))).astype(int), atol=1
    )


def test_printing_colours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(pillow_bytes(np.zeros((8, 8, 3), np.uint8), "CMYK", format="JPEG"))
    with pytest.raises(UnreadableImageError, match="CMYK"):
        read_file(path)


@pytest.mark.parametrize("kind", ["png", "png16", "jpeg", "progressive", "thumbnail"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    data = {
        "png": lambda: pillow_bytes(pixels, format="PNG"),
        "png16": lambda: imagecodecs.png_encode(pixels.astype(np.uint16) * 257),
        "jpeg": lambda: pillow_bytes(pixels, format="JPEG"),
        "progressive": lambda: pillow_bytes(pixels, format="JPEG", progressive=True),
        # An embedded preview has an end mark of its own.
        "thumbnail": lambda: pillow_bytes(
            pixels, format="JPEG", exif=b"Exif\0\0" + pillow_bytes(pixels[:8], format="JPEG")
        ),
    }[kind]()
    path = tmp_path / "x.img"
    path.write_bytes(data)
    assert read_file(path).shape == (40, 50, 3)
    for cut in range(0, len(data) - 1, 61):
        path.write_bytes(data[:cut])
        with pytest.raises(UnreadableImageError) as error:
            read_file(path)
        assert str(path) in str(error.value)


@FAST
@given(position=st.integers(0, 100_000), value=st.integers(0, 255), kind=st.sampled_from("pj"))
def test_altered_bytes_raise_only_our_errors(
    tmp_path: Path,
    position: int,
    value: int,
    kind: str,
    read_or_error: Callable[..., Image | ImageError],
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    data = bytearray(pillow_bytes(pixels, format="PNG" if kind == "p" else "JPEG"))
    data[position % len(data)] = value
    path = tmp_path / "x.img"
    path.write_bytes(data)
    got = read_or_error(path, limit_bytes=2**20)
    if isinstance(got, ImageError):
        assert str(path) in str(got)


def test_huge_declared_sizes_are_refused(tmp_path: Path) -> None:
    png = bytearray(pillow_bytes(np.zeros((8, 8), np.uint8), format="PNG"))
    png[16:24] = struct.pack(">II", 200_000, 100_000)
    jpeg = bytearray(pillow_bytes(np.zeros((8, 8, 3), np.uint8), "RGB", format="JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    for data, said in ((png, "100000x200000 uint8"), (jpeg, "65000x65000x3 uint8")):
        path = tmp_path / "x.img"
        path.write_bytes(data)
        with pytest.raises(ImageTooLargeError, match=said):
            read_file(path)


def test_zero_width_is_refused(tmp_path: Path) -> None:
    png = bytearray(pillow_bytes(np.zeros((8, 8), np.uint8), format="PNG"))
    png[16:20] = b"\0\0\0\0"
    path = tmp_path / "x.png"
    path.write_bytes(png)
    with pytest.raises(UnreadableImageError):
        read_file(path)


def test_texts_and_profiles_of_a_png_are_not_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    plain = imagecodecs.png_encode(pixels)
    text = b"Comment\0\0" + zlib.compress(bytes(1000))
    chunk = struct.pack(">I4s", len(text), b"zTXt") + text
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    decode, decoded = imagecodecs.png_decode, []
    monkeypatch.setattr(
        imagecodecs, "png_decode", lambda data: decoded.append(data) or decode(data)
    )
    path = tmp_path / "a.png"
    path.write_bytes(plain[:33] + 3 * chunk + plain[33:-12] + chunk + plain[-12:])
    np.testing.assert_array_equal(read_file(path).data, pixels)
    assert decoded == [plain]


@pytest.mark.parametrize(
    "more",
    [
        101 * (b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x01\x3f\x21"),
        20_000 * b"\xff\xe0\x00\x02",
    ],
)
def test_a_jpeg_that_would_take_hours_is_refused(tmp_path: Path, more: bytes) -> None:
    content = pillow_bytes(np.zeros((32, 32), np.uint8), format="JPEG", progressive=True)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert read_file(path).data.shape == (32, 32)
    path.write_bytes(content[:-2] + more + content[-2:])
    with pytest.raises(UnreadableImageError, match="too many"):
        read_file(path)
