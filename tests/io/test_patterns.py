"""Naming patterns that a user types."""

from __future__ import annotations

import pickle
import time
from pathlib import Path, PurePath

import numpy as np
import pytest
import tifffile

import napari_cellclf as cc
from napari_cellclf.errors import DatasetError, NameParseError, NoImagesError
from napari_cellclf.io.named_images import find_images, understood_below
from napari_cellclf.io.naming import find_scheme
from napari_cellclf.io.patterns import NamePattern
from napari_cellclf.io.sources import collect_sources
from napari_cellclf.io.stacks import looks_named, read_stack

PATTERN = "{plate}/{well}_s{site}_w{channel}.tif"


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    """Two plates, each two wells of two sites in two channels; plate 2's B03 lacks channel 2."""
    root = tmp_path / "screen"
    for plate in (1, 2):
        for well in ("B02", "B03"):
            for site in (1, 2):
                for channel in (1, 2):
                    if (plate, well, channel) == (2, "B03", 2):
                        continue
                    path = root / f"plate{plate}" / f"{well}_s{site}_w{channel}.tif"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    value = 1000 * plate + 100 * int(well[1:]) + 10 * site + channel
                    tifffile.imwrite(path, np.full((6, 7), value, np.uint16))
    return root


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        (PATTERN, "x/plate1/B02_s1_w3.tif",
         {"plate": "plate1", "well": "B02", "site": 1, "channel": 3}),
        ("Plate{plate}/{well}_{channel}.tif", "Plate007/B02_DAPI.tif",
         {"plate": "007", "well": "B02", "channel": "DAPI"}),
        # What is between fields may occur in them, too.
        ("{name}_{well:3}_w{channel}.tif", "my_exp_B02_w1.tif",
         {"name": "my_exp", "well": "B02", "channel": 1}),
        ("{row:1}{column:2}-{channel}", "B02-1.PNG", {"row": "B", "column": "02", "channel": 1}),
        # Characters of regular expressions stand for themselves.
        ("a+b(1).{channel}.tif", "a+b(1).2.tif", {"channel": 2}),
        ("{well}/{well}_s{site}.tif", "B02/B02_s1.tif", {"well": "B02", "site": 1}),
        ("{a}\\{b}.tif", "x/y.tif", {"a": "x", "b": "y"}),
        # An accented letter is one character or two.
        ("Pl\u00e4tte {n}/{a}.tif", "Pla\u0308tte 2/e\u0301.tif", {"n": 2, "a": "\u00e9"}),
        ("Pla\u0308tte {n}/{a}.tif", "Pl\u00e4tte 2/e.tif", {"n": 2, "a": "e"}),
        # A name without its folders is read as far as it goes.
        (PATTERN, "B02_s1_w3.tif", {"well": "B02", "site": 1, "channel": 3}),
    ],
)  # fmt: skip
def test_fields_are_read(pattern: str, path: str, fields: dict[str, object]) -> None:
    assert NamePattern(pattern).parse(PurePath(path)) == fields


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (PATTERN, "plate1/B02_s1.tif"),
        (PATTERN, "plate1/B02_s1_w3.png"),
        ("a.{channel}.tif", "ab1.tif"),
        ("{well}/{well}_s{site}.tif", "B02/B03_s1.tif"),
        ("P{plate}/{well}.tif", "x/B02.tif"),
        ("{well:3}.tif", "B2.tif"),
    ],
)
def test_other_names_are_not_read(pattern: str, path: str) -> None:
    assert NamePattern(pattern).parse(PurePath(path)) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("B02.tif", "no field"),
        ("{well.tif", "brace"),
        ("well}_{channel}.tif", "brace"),
        ("{a b}.tif", "cannot be a field's name"),
        ("{}_{channel}.tif", "cannot be a field's name"),
        ("{path}_{channel}.tif", "cannot be a field's name"),
        ("{row}{column}_w{channel}.tif", r"no text between \{row\} and \{column\}.*\{row:3\}"),
        ("{plate}/", "no field in the name of the file|without a name"),
        ("a//{channel}.tif", "without a name"),
        ("{channel}/{well}.tif", r"\{channel\} in a folder, but files of one image lie together"),
    ],
)
def test_an_unusable_pattern_says_what_to_write(pattern: str, why: str) -> None:
    if pattern == "{plate}/":
        # Without its last slash it is the name of a file.
        assert NamePattern(pattern).parse(PurePath("x.tif")) == {"plate": "x"}
        return
    with pytest.raises(NameParseError, match=why) as caught:
        NamePattern(pattern)
    message = str(caught.value)
    assert repr(pattern) in message
    assert message.endswith("such as {plate}/{well}_s{site}_w{channel}.tif")


def test_a_scheme_is_found_by_name_or_pattern() -> None:
    assert find_scheme("rxrx1").name == "rxrx1"
    assert find_scheme(PATTERN) == NamePattern(PATTERN)
    with pytest.raises(NameParseError, match=r"no naming scheme named 'harmony'.*drosophila"):
        find_scheme("harmony")


def test_a_pattern_can_be_sent_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(NamePattern(PATTERN)))
    assert again == NamePattern(PATTERN)
    assert again.parse(PurePath("p/B02_s1_w3.tif")) is not None


def test_a_hostile_name_takes_no_time() -> None:
    pattern = NamePattern("_".join(f"{{f{n}}}" for n in range(10)) + "-x.tif")
    started = time.perf_counter()
    assert pattern.parse(PurePath("_" * 250 + ".tif")) is None
    assert time.perf_counter() - started < 1


def test_any_file_of_a_site_is_the_site(screen: Path) -> None:
    image = cc.read_image(screen / "plate2" / "B02_s1_w2.tif", naming=PATTERN)
    assert (image.axes, image.channels) == ("CYX", ("channel 1", "channel 2"))
    assert image.data[:, 0, 0].tolist() == [2211, 2212]
    assert image.metadata == {"plate": "plate2", "well": "B02", "site": 1}
    lacking = cc.read_image(screen / "plate2" / "B03_s1_w1.tif", naming=PATTERN)
    assert lacking.metadata["missing_channels"] == ["channel 2"]
    # Without it, a file is a file.
    assert cc.read_image(screen / "plate2" / "B02_s1_w2.tif").axes == "YX"


def test_a_file_beside_is_seen_when_it_comes(screen: Path) -> None:
    path = screen / "plate1" / "B02_s1_w1.tif"
    assert cc.read_image(path, naming=PATTERN).n_channels == 2
    tifffile.imwrite(path.with_name("B02_s1_w3.tif"), np.zeros((6, 7), np.uint16))
    assert cc.read_image(path, naming=PATTERN).n_channels == 3


def test_a_folder_is_its_sites_in_order(screen: Path) -> None:
    tifffile.imwrite(screen / "overview.tif", np.zeros((8, 8), np.uint16))
    notes: list[str] = []
    sources = collect_sources([screen], PATTERN, on_note=notes.append)
    assert [(s.metadata["plate"], s.metadata["well"], s.metadata["site"]) for s in sources] == [
        (f"plate{plate}", well, site)
        for plate in (1, 2)
        for well in ("B02", "B03")
        for site in (1, 2)
    ]
    assert notes == [
        f"1 image is not named like {PATTERN} and left out, such as {screen / 'overview.tif'}"
    ]
    assert len(collect_sources([screen])) == 15
    with pytest.raises(NoImagesError, match=r"none of the 15 images .* like \{x\}-\{channel\}"):
        collect_sources([screen], "{x}-{channel}.tif")


def test_a_folder_opens_as_one_stack(screen: Path) -> None:
    assert looks_named(screen, PATTERN)
    assert not looks_named(screen)
    image = read_stack(screen, naming=PATTERN)
    assert (image.axes, image.shape) == ("PCYX", (8, 2, 6, 7))
    assert [row["well"] for row in image.metadata["sites"]] == ["B02", "B02", "B03", "B03"] * 2
    pixels = np.asarray(image.data)
    assert pixels[4, :, 0, 0].tolist() == [2211, 2212]
    # Black, where the file is missing.
    assert pixels[6, :, 0, 0].tolist() == [2311, 0]
    assert image.metadata["sites"][6]["missing_channels"] == ["channel 2"]


def test_the_preview_says_how_names_are_read(screen: Path) -> None:
    tifffile.imwrite(screen / "overview.tif", np.zeros((8, 8), np.uint16))
    said = understood_below(screen, PATTERN)
    assert said.total == 15
    assert said.lines[0] == "plate1/B02_s1_w1.tif -> plate plate1, well B02, site 1, channel 1"
    assert len(said.lines) == 3
    assert said.unknown == ("overview.tif",)


@pytest.mark.parametrize("parts", [(), ("train", "test")])
def test_what_is_not_named_so_in_folders_of_classes_is_counted(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    for part in parts or (".",):
        for label in ("control", "treated"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for name in ("B02_1.tif", "B03_1.tif", "overview.tif"):
                tifffile.imwrite(folder / name, np.ones((4, 4)))
    data = cc.read_dataset(tmp_path, naming="{well}_{channel}.tif")
    folders = 2 * max(1, len(parts))
    assert len(data) == 2 * folders
    words = f"; {folders} images are not named like {{well}}_{{channel}}.tif and left out"
    assert data.source.endswith(words)


def test_a_folder_that_fits_in_too_many_ways_is_given_up() -> None:
    pattern = NamePattern("{a}_{b}_{c}_{d}_{e}/{well}_{channel}.tif")
    assert pattern.is_folder("1_2_3_4_5")
    # It would fit, but a name like it that does not takes minutes to tell.
    assert not pattern.is_folder("_" * 240)


def test_a_number_without_end_is_text() -> None:
    digits = "1" * 5000
    fields = NamePattern("{well}_{channel}.tif").parse(PurePath(f"{digits}_1.tif"))
    assert fields == {"well": digits, "channel": 1}


def test_the_label_may_be_in_the_name(tmp_path: Path) -> None:
    for label in ("control", "treated"):
        for well in ("B02", "B03"):
            for channel in (1, 2):
                tifffile.imwrite(tmp_path / f"{label}-{well}-{channel}.tif", np.ones((4, 4)))
    data = cc.read_dataset(tmp_path, naming="{label}-{well}-{channel}.tif")
    assert (len(data), data.class_names) == (4, ("control", "treated"))
    assert data.group_column == "well"
    assert data.naming == "{label}-{well}-{channel}.tif"
    grouped = cc.read_dataset(tmp_path, naming="{label}-{group}-{channel}.tif")
    assert grouped.group_column == "group"
    assert grouped.table["group"].tolist() == ["B02", "B03"] * 2
    for stray in ("overview", "notes"):
        tifffile.imwrite(tmp_path / f"{stray}.tif", np.ones((4, 4)))
        data = cc.read_dataset(tmp_path, naming="{label}-{well}-{channel}.tif")
        count = "1 image is" if stray == "overview" else "2 images are"
        assert data.source.endswith(f"; {count} not named like control-B02-1.tif and left out")
    other = cc.read_dataset(tmp_path, naming="{dose}-{well}-{channel}.tif", label="dose")
    assert other.class_names == ("control", "treated")
    with pytest.raises(DatasetError, match="no 'age'"):
        cc.read_dataset(tmp_path, naming="{dose}-{well}-{channel}.tif", label="age", kind="names")


def test_a_pattern_that_fits_no_name_is_what_is_wrong(screen: Path) -> None:
    with pytest.raises(NoImagesError, match=r"is named like \{a\}-x.tif \(one is .*pattern"):
        cc.read_dataset(screen, naming="{a}-x.tif")


def test_classes_may_be_folders(screen: Path) -> None:
    data = cc.read_dataset(screen, naming=PATTERN)
    assert data.class_names == ("plate1", "plate2")
    assert len(data) == 8
    assert data.table["site"].tolist() == ["1", "2"] * 4
    # Every class is a plate, so that wells are kept together, and those of each plate.
    assert data.group_column == "plate+well"
    assert len(find_images(screen, PATTERN).named) == 8
