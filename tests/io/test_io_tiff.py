from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import watched
from napari_cellclf.errors import (
    AxesError,
    ImageError,
    ImageTooLargeError,
    UnreadableImageError,
)
from napari_cellclf.io.files import read_file, read_header

FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ReadOrError = Callable[..., Image | ImageError]
DTYPES = ["uint8", "int16", "uint16", "uint32", "int32", "float16", "float32", "float64"]


def pixels(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 200, shape)
    return values.astype(dtype)


@FAST
@given(
    axes=st.sampled_from(["YX", "ZYX", "TYX", "CYX", "TCYX", "ZCYX", "TZCYX"]),
    sizes=st.lists(st.integers(2, 5), min_size=3, max_size=3),
    plane=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    dtype=st.sampled_from(DTYPES),
    compression=st.sampled_from([None, "zlib", "lzw", "zstd"]),
    kind=st.sampled_from(["ome", "shaped"]),
    byteorder=st.sampled_from("<>"),
    tiled=st.booleans(),
)
def test_round_trip(
    tmp_path: Path,
    axes: str,
    sizes: list[int],
    plane: tuple[int, int],
    dtype: str,
    compression: str | None,
    kind: str,
    byteorder: str,
    tiled: bool,
) -> None:
    if dtype == "float16" and kind == "ome":
        return
    data = pixels((*sizes[: len(axes) - 2], *plane), dtype)
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path,
        data,
        ome=kind == "ome",
        metadata={"axes": axes},
        photometric="minisblack",
        compression=compression,
        byteorder=byteorder,
        tile=(16, 16) if tiled else None,
    )
    image = read_file(path)
    assert image.axes == axes
    assert image.dtype == np.dtype(dtype)
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.data, data)
    header = read_header(path)
    assert (header.shape, header.axes, header.dtype) == (image.shape, axes, image.dtype)


def test_ome_channel_names_and_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": ["DNA", "actin"]},
        "PhysicalSizeX": 250.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.5,
    }
    tifffile.imwrite(path, pixels((2, 9, 8)), metadata=metadata, photometric="minisblack")
    image = read_file(path)
    assert image.channels == ("DNA", "actin")
    assert image.pixel_size == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize(("unit", "factor"), [("um", 1.0), ("micron", 1.0), ("nm", 0.001)])
def test_imagej_labels_and_pixel_size(tmp_path: Path, unit: str, factor: float) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path,
        pixels((3, 2, 9, 8)),
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZCYX", "unit": unit, "Labels": ["DNA", "actin"] * 3},
    )
    image = read_file(path)
    assert image.axes == "ZCYX"
    assert image.channels == ("DNA", "actin")
    assert image.pixel_size == pytest.approx((0.5 * factor, 0.25 * factor))


def test_printing_resolution_is_not_a_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((9, 8)), resolution=(300, 300), resolutionunit="INCH")
    assert read_file(path).pixel_size is None


def test_rgb_keeps_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((9, 8, 3)), photometric="rgb")
    assert read_file(path).axes == "YXS"
    tifffile.imwrite(path, pixels((3, 9, 8)), photometric="rgb", planarconfig="separate")
    assert read_file(path).axes == "SYX"


def test_axes_without_names_are_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((2, 3, 9, 8)), photometric="minisblack")
    with pytest.raises(AxesError, match=r"QQYX.*TCYX") as error:
        read_file(path)
    assert str(path) in str(error.value)


def test_no_image_plane_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((9, 8)), metadata={"axes": "ZT"})
    with pytest.raises(AxesError, match="lack Y or X"):
        read_file(path)


def ome_of(path: Path) -> str:
    with tifffile.TiffFile(path) as tif:
        return tif.ome_metadata or ""


def write_ome(path: Path, data: np.ndarray, xml: str) -> None:
    """Write pages with a description of our own."""
    with tifffile.TiffWriter(path) as tif:
        for index, page in enumerate(data):
            tif.write(
                page,
                description=xml.encode() if index == 0 else None,
                metadata=None,
                contiguous=False,
            )


def ome_xml(data: str, *, sizes: str = 'SizeC="1" SizeZ="2" SizeT="1"', uuid: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {uuid}>'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="8" SizeY="9" {sizes}><Channel ID="Channel:0:0" Name="DNA"/>{data}</Pixels>'
        "</Image></OME>"
    )


def elsewhere(name: str) -> str:
    mine = '<TiffData FirstZ="0" IFD="0"><UUID FileName="x.ome.tif">urn:uuid:1</UUID></TiffData>'
    other = f'<TiffData FirstZ="1" IFD="0"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData>'
    return mine + other


def tricky_headers(name: str) -> dict[str, str]:
    """Headers that a reader less thorough than tifffile would not see to point elsewhere."""
    pixels = 'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="9" SizeZ="1" SizeC="1" SizeT="1"'
    uuid = f'<UUID FileName="{name}">urn:uuid:1</UUID>'
    data = f'<TiffData IFD="0" PlaneCount="1">{uuid}</TiffData>'
    own = '<TiffData IFD="0" PlaneCount="1"/>'

    def ome(body: str, before: str = "") -> str:
        space = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        return f'<?xml version="1.0"?>{before}<OME {space} UUID="urn:uuid:2">{body}</OME>'

    def image(inner: str, tag: str = "Image", inside: str = "Pixels") -> str:
        return f'<{tag} ID="I"><{inside} ID="P" {pixels}>{inner}</{inside}></{tag}>'

    return {
        "document type": ome(image(data), before="<!DOCTYPE OME>"),
        "another image": ome(image(data, tag="XImage")),
        "other pixels": ome(image(data, inside="XPixels")),
        "other data": ome(image(data.replace("TiffData", "XTiffData"))),
        "other identity": ome(image(data.replace("UUID", "XUUID"))),
        "empty first image": ome(image("") + image(data)),
        "second image": ome(image(own) + image(data)),
        "second pixels": ome(
            f'<Image ID="I"><Pixels ID="P" {pixels}/>'
            f'<Pixels ID="Q" {pixels}>{data}</Pixels></Image>'
        ),
    }


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("trick", sorted(tricky_headers("")))
def test_no_header_makes_another_file_be_read(tmp_path: Path, trick: str, kind: str) -> None:
    target = tmp_path / "secret.ome.tif"
    if kind == "file":
        tifffile.imwrite(target, np.full((9, 8), 77, np.uint8))
    elif not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    else:
        # Opening it for reading would wait for ever.
        os.mkfifo(target)
    folder = tmp_path / "folder"
    folder.mkdir()
    mine = np.arange(72, dtype=np.uint8).reshape(9, 8)
    for name in (str(target), "../secret.ome.tif"):
        path = folder / "x.ome.tif"
        tifffile.imwrite(path, mine, description=tricky_headers(name)[trick], metadata=None)
        np.testing.assert_array_equal(read_file(path).data, mine)


@pytest.mark.parametrize("name", ["secret.tif", "../secret.tif", "ABSOLUTE"])
def test_ome_references_to_other_files_are_never_followed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    target = {"ABSOLUTE": tmp_path / "secret.tif"}.get(name, folder / name)
    tifffile.imwrite(target, pixels((9, 8), seed=1))
    path = folder / "x.ome.tif"
    mine = pixels((1, 9, 8))
    named = str(target) if name == "ABSOLUTE" else name
    write_ome(path, mine, ome_xml(elsewhere(named), uuid='UUID="urn:uuid:1"'))
    opened = []
    original = tifffile.FileHandle.open

    def spy(self: tifffile.FileHandle) -> None:
        # A stream has no path to look beside.
        opened.append((hasattr(self._file, "read"), self._name))
        original(self)

    monkeypatch.setattr(tifffile.FileHandle, "open", spy)
    image = read_file(path)
    assert opened
    assert set(opened) == {(True, "x.ome.tif")}
    np.testing.assert_array_equal(image.data, mine[0])
    assert image.channels == ("DNA",)


def test_own_pages_of_a_set_of_files_keep_their_axes(tmp_path: Path) -> None:
    entries = "".join(
        f'<TiffData FirstZ="{z}" FirstT="{t}" IFD="{z}"><UUID FileName="{name}">urn:{name}</UUID>'
        "</TiffData>"
        for t, name in enumerate(["x.ome.tif", "y.ome.tif"])
        for z in range(3)
    )
    path = tmp_path / "x.ome.tif"
    data = pixels((3, 9, 8))
    xml = ome_xml(entries, sizes='SizeC="1" SizeZ="3" SizeT="2"', uuid='UUID="urn:x.ome.tif"')
    write_ome(path, data, xml)
    image = read_file(path)
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize("count", [3, 10**9])
def test_ome_that_declares_more_planes_than_pages_is_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.ome.tif"
    write_ome(path, pixels((2, 9, 8)), ome_xml("<TiffData/>", sizes=f'SizeZ="{count}"'))
    with pytest.raises(UnreadableImageError, match=f"declares {count:,} planes.*has 2 pages"):
        read_file(path)
    write_ome(path, pixels((2, 9, 8)), ome_xml(f'<TiffData IFD="0" PlaneCount="{count}"/>'))
    with pytest.raises(UnreadableImageError, match=f"declares {count:,} planes"):
        read_file(path)


def test_broken_xml_falls_back_to_the_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    data = pixels((2, 9, 8))
    write_ome(path, data, '<?xml version="1.0"?><OME xmlns="x"><Image></OME>')
    np.testing.assert_array_equal(read_file(path).data, data)


def test_an_entity_bomb_is_not_expanded(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaa">]><OME>&a;</OME>'
    write_ome(path, pixels((2, 9, 8)), bomb)
    assert read_file(path).shape == (2, 9, 8)


def test_imagej_that_declares_more_planes_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((4, 90, 80)), imagej=True, metadata={"axes": "ZYX"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"images=4", b"images=9").replace(b"slices=4", b"slices=9"))
    with pytest.raises(UnreadableImageError, match="9 planes"):
        read_file(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImageError):
        read_file(path)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_truncation_anywhere_never_gives_half_an_image(
    tmp_path: Path, compression: str | None, read_or_error: ReadOrError
) -> None:
    path = tmp_path / "x.tif"
    whole = pixels((3, 40, 50))
    tifffile.imwrite(
        path, whole, compression=compression, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        names = len(tif.pages)
    assert names == 3 or compression is None
    for cut in range(0, len(data), 97):
        path.write_bytes(data[:cut])
        got = read_or_error(path)
        if isinstance(got, ImageError):
            assert str(path) in str(got)
            assert "\n" not in str(got)
        else:
            np.testing.assert_array_equal(got.data, whole)


@FAST
@given(position=st.integers(0, 100_000), value=st.integers(0, 255))
def test_altered_bytes_raise_only_our_errors(
    tmp_path: Path, position: int, value: int, read_or_error: ReadOrError
) -> None:
    path = tmp_path / "x.tif"
    if not path.exists():
        tifffile.imwrite(path, pixels((2, 30, 20)), compression="zlib", photometric="minisblack")
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    altered = tmp_path / "altered.tif"
    altered.write_bytes(data)
    got = read_or_error(altered, limit_bytes=2**20)
    if isinstance(got, ImageError):
        assert str(altered) in str(got)


def bare_tiff(width: int, height: int, tags: dict[int, tuple[int, int]] | None = None) -> bytes:
    """A TIFF of one 16-bit page that holds nothing but its header."""
    entries = {
        256: (4, width),
        257: (4, height),
        258: (3, 16),
        259: (3, 1),
        262: (3, 1),
        273: (4, 200),
        277: (3, 1),
        278: (4, height),
        279: (4, 64),
    } | (tags or {})
    body = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items())
    )
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + b"\0" * 4
    return head.ljust(300, b"\0")


def test_a_huge_image_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(bare_tiff(200_000, 200_000))
    with pytest.raises(
        ImageTooLargeError, match=r"image declares 200000x200000 uint16 \(74.5 GiB\); limit"
    ):
        read_file(path)


def test_a_huge_tile_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tiles = {322: (4, 65_536), 323: (4, 65_536), 324: (4, 200), 325: (4, 64)}
    path.write_bytes(bare_tiff(16, 16, tiles))
    with pytest.raises(ImageTooLargeError, match="tiles of 65536x65536"):
        read_file(path)


def test_a_jpeg_inside_that_declares_more_than_its_strip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((64, 64), "uint8"), compression="jpeg")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    path.write_bytes(data)
    with pytest.raises(ImageTooLargeError, match="declares 4225000000 values"):
        read_file(path)


def test_the_limit_is_a_parameter_and_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels((10, 10)))
    assert read_file(path, limit_bytes=200).shape == (10, 10)
    with pytest.raises(ImageTooLargeError, match="limit 199 bytes"):
        read_file(path, limit_bytes=199)
    monkeypatch.setenv("CELLCLF_MAX_IMAGE_BYTES", "199")
    with pytest.raises(ImageTooLargeError):
        read_file(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.ones((4, 5), "complex64"), "complex64"),
        (np.full((4, 5), np.nan, "float32"), "not one of its pixels is a finite number"),
    ],
)
def test_values_that_cannot_be_classified_are_refused(
    tmp_path: Path, data: np.ndarray, reason: str
) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, data)
    with pytest.raises(UnreadableImageError, match=reason):
        read_file(path)


def test_other_threads_may_go_on_logging(caplog: pytest.LogCaptureFixture) -> None:
    import threading

    from napari_cellclf.io.decoding import silenced

    logger = logging.getLogger("tifffile")
    with silenced("tifffile"):
        logger.error("ours")
        other = threading.Thread(target=logger.error, args=("theirs",))
        other.start()
        other.join()
    logger.error("later")
    assert [record.message for record in caplog.records] == ["theirs", "later"]


@pytest.mark.parametrize("compression", ["jpeg", "png"])
def test_small_images_inside_that_take_long_to_decode_are_refused(
    tmp_path: Path, compression: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression=compression)
    assert read_file(path).data.shape == (16, 16)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        start, count = page.dataoffsets[0], page.databytecounts[0]
        place = page.tags["StripByteCounts"].valueoffset
    content = path.read_bytes()
    segment = content[start : start + count]
    if compression == "jpeg":
        scan = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00"
        hostile = segment[:-2] + 101 * scan + segment[-2:]
    else:
        text = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(1000))
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        hostile = segment[:33] + chunk + segment[33:]
    changed = bytearray(content[:start] + hostile)
    assert start + count == len(content)
    changed[place : place + 4] = struct.pack("<I", len(hostile))
    path.write_bytes(changed)
    with pytest.raises(UnreadableImageError, match=r"too many|more than pixels"):
        read_file(path)


@pytest.mark.parametrize("channels", [2, 5, 6])
def test_pages_last_is_asked_about(tmp_path: Path, channels: int) -> None:
    tifffile.imwrite(tmp_path / "x.tif", pixels((40, 50, channels)), photometric="minisblack")
    with pytest.raises(AxesError, match=rf"40 pages of 50x{channels} pixels.*numpy.moveaxis"):
        read_file(tmp_path / "x.tif")
    with pytest.raises(AxesError, match=r"numpy\.moveaxis"):
        read_header(tmp_path / "x.tif")


@pytest.mark.parametrize(
    "labels",
    [
        ["c:1/2 - mine.czi", "c:2/2 - mine.czi"],
        ["c:1/2 z:1/5 - a.lif", "c:2/2 z:1/5 - a.lif"],
        ["img_0001.tif", "img_0002.tif"],
        ["1", "2"],
        ["Slice 1", "Slice 2"],
        ["some_image ch A", "some_image ch B"],
    ],
)
def test_labels_of_slices_are_not_names_of_channels(tmp_path: Path, labels: list[str]) -> None:
    path = tmp_path / "some_image.tif"
    tifffile.imwrite(
        path, pixels((2, 20, 30)), imagej=True, metadata={"axes": "CYX", "Labels": labels}
    )
    assert read_file(path).channels == ("", "")


def test_labels_that_differ_within_a_channel_are_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "some_image.tif"
    for axes, shape in (("ZYX", (3, 20, 30)), ("ZCYX", (3, 2, 20, 30))):
        labels = [f"section {number}" for number in range(np.prod(shape[:-2]))]
        tifffile.imwrite(
            path, pixels(shape), imagej=True, metadata={"axes": axes, "Labels": labels}
        )
        assert not any(read_file(path).channels)


@pytest.mark.parametrize("labels", [["DAPI", "GFP"], ["488", "561"], ["w1 Hoechst", "w2 ConA"]])
def test_labels_that_name_channels_do(tmp_path: Path, labels: list[str]) -> None:
    path = tmp_path / "some_image.tif"
    tifffile.imwrite(
        path, pixels((2, 20, 30)), imagej=True, metadata={"axes": "CYX", "Labels": labels}
    )
    assert read_file(path).channels == tuple(labels)


@pytest.mark.parametrize(
    "fields",
    [
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "zlib", "tile": (32, 48)},
        {"compression": "lzw", "tile": (16, 16), "planarconfig": "separate", "photometric": "rgb"},
        {"compression": "jpeg", "tile": (32, 32), "photometric": "rgb"},
        {"compression": "zlib", "rowsperstrip": 5, "photometric": "minisblack"},
    ],
)
def test_read_in_parts_is_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    shapes = {"rgb": (101, 83, 3), "minisblack": (5, 101, 83), None: (101, 83)}
    shape = (3, 101, 83) if "planarconfig" in fields else shapes[fields.get("photometric")]
    tifffile.imwrite(tmp_path / "x.tif", pixels(shape, "uint8"), **fields)
    whole = read_file(tmp_path / "x.tif")
    monkeypatch.setattr("napari_cellclf.io.tiff._LARGE_BYTES", 0)
    told: list[float] = []
    with watched(lambda what, fraction: told.append(fraction)):
        parts = read_file(tmp_path / "x.tif")
    np.testing.assert_array_equal(parts.data, whole.data)
    assert parts.axes == whole.axes
    assert told == sorted(told)
    assert told[-1] == 1
