"""A picture means what its file says: colours, white, which side is up, which of its images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

import napari_cellclf as cc
from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, UnreadableImageError
from napari_cellclf.io.files import read_file, read_header

Y, X = np.mgrid[:40, :60]
COLOURS = np.stack([60 + 2 * X, 80 + 2 * Y, 200 - X - Y], -1).astype(np.uint8)
GREY = COLOURS[..., 0]
BITS = GREY > 100


def _pillow(mode: str, compression: str | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        Pillow.fromarray(COLOURS).convert(mode).save(path, "tiff", compression=compression)

    return write


def _lab(*, icc: bool, wide: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        lab = np.asarray(Pillow.fromarray(COLOURS).convert("LAB"))
        light = lab[..., 0].astype(float) * (65280 if icc else 65535) / 255
        differences = lab[..., 1:] ^ np.uint8(128 if icc else 0)
        pixels = lab if not icc else np.dstack([lab[..., :1], differences])
        if wide:
            whole = differences.astype(np.uint16) << 8
            pixels = np.dstack([np.rint(light).astype(np.uint16), whole])
        tifffile.imwrite(path, pixels, photometric="icclab" if icc else "cielab")

    return write


@pytest.mark.parametrize(
    ("write", "most"),
    [
        (_pillow("CMYK"), 0),
        (_pillow("CMYK", "tiff_lzw"), 0),
        (_pillow("LAB"), 3),
        (_pillow("LAB", "tiff_adobe_deflate"), 3),
        (_lab(icc=True, wide=False), 3),
        (_lab(icc=False, wide=True), 3),
        (_lab(icc=True, wide=True), 3),
        (_pillow("YCbCr", "tiff_adobe_deflate"), 3),
        (_pillow("YCbCr", "tiff_lzw"), 3),
    ],
)
def test_other_colours_become_rgb(tmp_path: Path, write: Callable[[Path], None], most: int) -> None:
    write(tmp_path / "x.tif")
    image = read_file(tmp_path / "x.tif")
    assert (image.axes, image.channels) == ("YXS", ("red", "green", "blue"))
    unit = 257 if image.dtype == np.uint16 else 1
    inside = np.asarray(image.data, float) / unit - COLOURS
    assert np.abs(inside).max() <= most + 0.5


def test_ycbcr_of_other_weights_and_range(tmp_path: Path) -> None:
    # White, red and mid-grey as in video: brightness 16 to 235, weights of ITU-R BT.709.
    codes = np.array([[[235, 128, 128], [63, 102, 240], [126, 128, 128]]], np.uint8)
    ratios = [(2126, 10000), (7152, 10000), (722, 10000)]
    ranges = [(v, 1) for v in (16, 235, 128, 240, 128, 240)]
    tags = [
        (529, 5, 3, [n for ratio in ratios for n in ratio], True),
        (532, 5, 6, [n for ratio in ranges for n in ratio], True),
    ]
    tifffile.imwrite(tmp_path / "x.tif", codes, photometric="ycbcr", extratags=tags)
    found = np.asarray(read_file(tmp_path / "x.tif").data, int)
    expected = [[[255, 255, 255], [255, 0, 0], [128, 128, 128]]]
    assert np.abs(found - np.array(expected)).max() <= 2


@pytest.mark.parametrize(
    ("photometric", "dtype"), [("cielab", "float32"), ("itulab", "uint8"), ("logluv", "uint8")]
)
def test_colours_that_cannot_be_converted_are_refused(
    tmp_path: Path, photometric: str, dtype: str
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", COLOURS.astype(dtype), photometric=photometric)
    with pytest.raises(UnreadableImageError, match="cannot be converted; save it as RGB or grey"):
        read_file(tmp_path / "x.tif")


def test_a_mosaic_of_a_camera_and_printing_jpeg_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", GREY, photometric="cfa")
    with pytest.raises(UnreadableImageError, match="raw mosaic of a camera"):
        read_file(tmp_path / "x.tif")
    Pillow.fromarray(COLOURS).convert("CMYK").save(tmp_path / "y.tif", compression="jpeg")
    with pytest.raises(UnreadableImageError, match="SEPARATED"):
        read_file(tmp_path / "y.tif")


@pytest.mark.parametrize(
    ("stored", "fields", "white"),
    [
        (255 - GREY, {}, None),
        (65535 - GREY.astype(np.uint16), {}, None),
        (4095 - GREY.astype(np.uint16), {"bitspersample": 12}, 4095),
        (65535 - GREY.astype(np.uint16), {"compression": "zlib", "tile": (16, 16)}, None),
    ],
)
def test_zero_that_is_white_is_turned_around(
    tmp_path: Path, stored: np.ndarray, fields: dict[str, object], white: float | None
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite", **fields)
    image = read_file(tmp_path / "x.tif")
    np.testing.assert_array_equal(image.data, GREY)
    assert image.white == white


def test_floats_of_which_zero_is_white_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", GREY.astype(np.float32), photometric="miniswhite")
    with pytest.raises(UnreadableImageError, match="0 is white"):
        read_file(tmp_path / "x.tif")


@pytest.mark.parametrize("compression", [None, "group4"])
def test_bits_are_as_a_viewer_shows_them(tmp_path: Path, compression: str | None) -> None:
    Pillow.fromarray(BITS).save(tmp_path / "x.tif", compression=compression)
    np.testing.assert_array_equal(read_file(tmp_path / "x.tif").data, BITS)
    tifffile.imwrite(tmp_path / "y.tif", BITS)
    np.testing.assert_array_equal(read_file(tmp_path / "y.tif").data, BITS)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_white_is_what_the_file_declares(tmp_path: Path, bits: int) -> None:
    white = 2**bits - 1
    pixels = np.linspace(0, white, GREY.size).astype(np.uint16).reshape(GREY.shape)
    tifffile.imwrite(tmp_path / "packed.tif", pixels, bitspersample=bits)
    tifffile.imwrite(
        tmp_path / "x.ome.tif", pixels, metadata={"axes": "YX", "SignificantBits": bits}
    )
    prepare = cc.Preprocessing(
        channels=({"name": "image"},), normalization={"kind": "scale_linear"}
    )
    for name in ("packed.tif", "x.ome.tif"):
        image = read_file(tmp_path / name)
        assert (image.white, read_header(tmp_path / name).white) == (white, white)
        # Pixels stay as the camera counted them; only what is fed to the network knows white.
        np.testing.assert_array_equal(image.data, pixels)
        assert prepare(image).max() == pytest.approx(1)
    with pytest.raises(ImageError, match=f"declares that {white} is white, but holds 60000"):
        prepare(Image(np.full((4, 4), 60000, np.uint16), "YX", white=white))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "planes.tif"])
def test_orientation_of_exif_and_tiff(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    tag = [(274, 3, 1, orientation, True)]
    if ending == "tif":
        tifffile.imwrite(path, COLOURS, photometric="rgb", extratags=tag)
    elif ending == "planes.tif":
        planes = np.moveaxis(COLOURS, -1, 0)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", extratags=tag)
    else:
        exif = Pillow.Exif()
        exif[274] = orientation
        Pillow.fromarray(COLOURS).save(path, exif=exif, quality=100)
    shown = COLOURS if ending.endswith("tif") else np.asarray(Pillow.open(path))
    upright = Pillow.fromarray(shown)
    upright.getexif()[274] = orientation
    image = read_file(path)
    found = np.moveaxis(np.asarray(image.data), image.axes.index("S"), -1)
    np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(upright)))
    if ending.endswith("tif"):
        assert read_header(path).shape == image.shape


def test_damaged_exif_says_nothing(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[274] = 3
    Pillow.fromarray(COLOURS).save(tmp_path / "x.jpg", exif=exif)
    data = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "y.jpg").write_bytes(data.replace(b"MM\0*", b"??\0*").replace(b"II*\0", b"??*\0"))
    plain = np.asarray(Pillow.open(tmp_path / "x.jpg"))
    np.testing.assert_array_equal(read_file(tmp_path / "y.jpg").data, plain)


def test_a_palette_is_colours_unless_a_microscope_tints_with_it(tmp_path: Path) -> None:
    shown = Pillow.fromarray(COLOURS).quantize(64)
    for name in ("x.tif", "x.png"):
        shown.save(tmp_path / name)
        np.testing.assert_array_equal(read_file(tmp_path / name).data, shown.convert("RGB"))
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "g.tif", GREY, photometric="palette", colormap=green)
    np.testing.assert_array_equal(read_file(tmp_path / "g.tif").data, GREY)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_saved_as_rgb_is_one_channel(tmp_path: Path, mode: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    Pillow.fromarray(GREY).convert(mode).save(path)
    image = cc.read_image(path)
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.data, GREY)


def test_grey_with_a_transparent_level_is_one_channel(tmp_path: Path) -> None:
    Pillow.fromarray(GREY).save(tmp_path / "x.png", transparency=0)
    np.testing.assert_array_equal(cc.read_image(tmp_path / "x.png").data, GREY)


def test_colours_that_differ_in_one_pixel_stay(tmp_path: Path) -> None:
    pixels = np.stack([GREY] * 3, -1)
    pixels[7, 11, 2] ^= 1
    Pillow.fromarray(pixels).save(tmp_path / "x.png")
    assert cc.read_image(tmp_path / "x.png").channels == ("red", "green", "blue")


def test_colours_multiplied_by_their_transparency_are_refused(tmp_path: Path) -> None:
    clear = np.dstack([COLOURS, GREY])
    tifffile.imwrite(tmp_path / "x.tif", clear, photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(UnreadableImageError, match="associated alpha"):
        read_file(tmp_path / "x.tif")
    clear[..., 3] = 255
    tifffile.imwrite(tmp_path / "y.tif", clear, photometric="rgb", extrasamples=["assocalpha"])
    assert read_file(tmp_path / "y.tif").channels[:3] == ("red", "green", "blue")


def test_thumbnails_and_masks_are_not_the_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(GREY[::4, ::4], photometric="minisblack", metadata=None, subfiletype=1)
        file.write(GREY, photometric="minisblack", metadata=None)
        file.write(BITS, photometric="mask", metadata=None, subfiletype=4)
    np.testing.assert_array_equal(read_file(tmp_path / "x.tif").data, GREY)
    tifffile.imwrite(tmp_path / "y.tif", GREY, photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_file(tmp_path / "y.tif").data, GREY)


@pytest.mark.parametrize("ome", [True, False])
def test_several_images_of_one_size_are_its_sites(tmp_path: Path, ome: bool) -> None:
    path = tmp_path / ("x.ome.tif" if ome else "x.tif")
    with tifffile.TiffWriter(path, ome=ome) as file:
        for level in range(3):
            file.write(GREY + level, photometric="minisblack", metadata={"axes": "YX"})
    image = cc.read_image(path)
    assert (image.axes, image.shape) == ("PYX", (3, *GREY.shape))
    np.testing.assert_array_equal(image.data[2], GREY + 2)
    header = read_header(path)
    assert (header.axes, header.shape) == (image.axes, image.shape)


def test_several_different_images_are_refused_by_name(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(GREY, photometric="minisblack", metadata=None)
        file.write(GREY[::2], photometric="minisblack", metadata=None)
    with pytest.raises(
        UnreadableImageError, match=r"2 different images \(40x60 uint8, 20x60 uint8\); save the one"
    ):
        cc.read_image(tmp_path / "x.tif")
