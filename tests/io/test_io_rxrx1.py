from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_cellclf as cc
from napari_cellclf.core.channels import match_channels
from napari_cellclf.core.stains import STAINS
from napari_cellclf.errors import ImageError, UnreadableImageError
from napari_cellclf.io.named_images import find_images, named_image
from napari_cellclf.io.naming import parse_name
from napari_cellclf.io.rxrx1 import RXRX1, stain_channels

MakeSite = Callable[..., Path]
COLUMNS = "site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna,sirna_id"


def known_of(path: Path) -> dict[str, Any]:
    image = named_image(path)
    assert image is not None
    return image.metadata


def write_table(folder: Path, *rows: str) -> None:
    folder.joinpath("metadata.csv").write_text("\n".join((COLUMNS, *rows)) + "\n")


@given(
    cell=st.sampled_from(["HEPG2", "HUVEC", "RPE", "U2OS"]),
    number=st.integers(1, 24),
    padded=st.booleans(),
    plate=st.integers(1, 4),
    row=st.sampled_from("ABCDEFGHIJKLMNOP"),
    column=st.integers(1, 24),
    site=st.integers(1, 2),
    channel=st.integers(1, 6),
)
def test_names_round_trip(
    cell: str,
    number: int,
    padded: bool,
    plate: int,
    row: str,
    column: int,
    site: int,
    channel: int,
) -> None:
    written = f"{cell}-{number:02d}" if padded else f"{cell}-{number}"
    path = Path(f"x/{written}/Plate{plate}/{row}{column:02d}_s{site}_w{channel}.png")
    assert RXRX1.parse(path) == {
        "experiment": f"{cell}-{number:02d}",
        "plate": plate,
        "well": f"{row}{column:02d}",
        "site": site,
        "channel": channel,
    }


@pytest.mark.parametrize(
    "name",
    [
        "B02_s1_w7.png",
        "B02_s1_w0.png",
        "B02_s1.png",
        "._B02_s1_w1.png",
        "B02_s1_w1.tif",
        "B02_s1_w1.png.part",
        "IXMtest_E07_s3_w1724EB5AF.tif",
        "",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert RXRX1.parse(Path(name)) is None
    assert parse_name(Path(name)) is None


@pytest.mark.parametrize("folder", ["", "HUVEC-01", "HUVEC-01/other", "other/Plate1"])
def test_folders_that_do_not_say_give_no_experiment(folder: str, tmp_path: Path) -> None:
    said = RXRX1.parse(tmp_path / folder / "B02_s1_w1.png")
    assert said == {"well": "B02", "site": 1, "channel": 1}


def test_relative_path_inside_a_plate(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_site())
    assert cc.read_image("B02_s1_w1.png").metadata["site_id"] == "HUVEC-01_1_B02_1"


def test_any_file_opens_the_whole_site(make_site: MakeSite) -> None:
    plate = make_site()
    for channel in range(1, 7):
        image = cc.read_image(plate / f"B02_s1_w{channel}.png")
        assert image.axes == "CYX"
        assert image.channels == STAINS
        assert image.data[:, 0, 0].tolist() == [101, 102, 103, 104, 105, 106]
        assert image.metadata["missing_channels"] == []


def test_a_site_with_missing_channels_says_what_is_missing(make_site: MakeSite) -> None:
    plate = make_site(channels=(1, 2, 4))
    image = cc.read_image(plate / "B02_s1_w4.png")
    assert image.channels == ("w1 Hoechst", "w2 ConA", "w4 Syto14")
    assert image.data[:, 0, 0].tolist() == [101, 102, 104]
    assert image.metadata["missing_channels"] == ["w3 Phalloidin", "w5 MitoTracker", "w6 WGA"]


def test_metadata_is_joined_from_the_table_above(make_site: MakeSite, tmp_path: Path) -> None:
    plate = make_site("data/images/train/HUVEC-1/Plate2")
    write_table(
        tmp_path / "data",
        "HUVEC-01_2_B02_1,HUVEC-01_2_B02,HUVEC,train,HUVEC-01,2,B02,1,negative_control,EMPTY,1138",
        "HUVEC-01_2_B02_2,HUVEC-01_2_B02,RPE,train,HUVEC-01,2,B02,2,treatment,s1,1",
    )
    metadata = cc.read_image(plate / "B02_s1_w1.png").metadata
    assert metadata == {
        "site_id": "HUVEC-01_2_B02_1",
        "well_id": "HUVEC-01_2_B02",
        "cell_type": "HUVEC",
        "dataset": "train",
        "experiment": "HUVEC-01",
        "plate": 2,
        "well": "B02",
        "site": 1,
        "well_type": "negative_control",
        "sirna": "EMPTY",
        "sirna_id": 1138,
        "missing_channels": [],
    }


def test_without_a_table_only_the_name_is_known(make_site: MakeSite, tmp_path: Path) -> None:
    tmp_path.joinpath("metadata.csv").write_text("name,value\na,1\n")
    metadata = known_of(make_site() / "B02_s1_w1.png")
    assert (metadata["site_id"], metadata["cell_type"]) == ("HUVEC-01_1_B02_1", None)


def test_a_table_that_changes_is_read_again(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site() / "B02_s1_w1.png"
    write_table(tmp_path, "HUVEC-01_1_B02_1,w,HUVEC,train,e,1,B02,1,t,s,1")
    assert known_of(site)["cell_type"] == "HUVEC"
    write_table(tmp_path, "HUVEC-01_1_B02_1,w,RPE,train,e,1,B02,1,t,s,1")
    assert known_of(site)["cell_type"] == "RPE"


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"site_id\n", b"", b'site_id\n"HUVEC'])
def test_a_damaged_table_is_no_reason_to_fail(
    make_site: MakeSite, tmp_path: Path, content: bytes
) -> None:
    tmp_path.joinpath("metadata.csv").write_bytes(content)
    assert known_of(make_site() / "B02_s1_w1.png")["plate"] == 1


def test_sites_are_found_from_root_experiment_and_plate(
    make_site: MakeSite, tmp_path: Path
) -> None:
    for plate in (10, 2):
        make_site(f"images/HUVEC-01/Plate{plate}", well="C03", site=2)
        make_site(f"images/HUVEC-01/Plate{plate}", well="C03", site=1)
        make_site(f"images/HUVEC-01/Plate{plate}", well="B02", channels=(1, 2))
    make_site("images/HUVEC-01/.ipynb_checkpoints")
    root = find_images(tmp_path).named
    assert [site.metadata["site_id"] for site in root] == [
        "HUVEC-01_2_B02_1",
        "HUVEC-01_2_C03_1",
        "HUVEC-01_2_C03_2",
        "HUVEC-01_10_B02_1",
        "HUVEC-01_10_C03_1",
        "HUVEC-01_10_C03_2",
    ]
    assert list(root[0].files) == [1, 2]
    assert len(find_images(tmp_path / "images" / "HUVEC-01").named) == 6
    assert len(find_images(tmp_path / "images" / "HUVEC-01" / "Plate2").named) == 3


def test_files_that_do_not_go_together_are_named(make_site: MakeSite) -> None:
    plate = make_site(channels=(1, 2))
    make_site(channels=(3,), size=7)
    with pytest.raises(ImageError, match=r"B02_s1_w3\.png: is 7x7 uint8.*w1\.png is 6x6 uint8"):
        cc.read_image(plate / "B02_s1_w1.png")


def test_a_damaged_channel_is_named(make_site: MakeSite) -> None:
    plate = make_site()
    plate.joinpath("B02_s1_w3.png").write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"B02_s1_w3\.png: the file is empty"):
        cc.read_image(plate / "B02_s1_w1.png")


@pytest.mark.parametrize(
    ("name", "stain"),
    [
        ("DAPI", 1),
        ("nuclei", 1),
        ("ConA", 2),
        ("ER", 2),
        ("F-actin", 3),
        ("SYTO 14", 4),
        ("RNA", 4),
        ("mitochondria", 5),
        ("plasma membrane", 6),
        ("Golgi", 6),
        ("B02_s1_w3", 3),
    ],
)
def test_stains_are_found_under_other_names(name: str, stain: int) -> None:
    hits = [spec.name for spec in stain_channels() if spec.matches(name)]
    assert hits == [STAINS[stain - 1]]


def test_stains_match_themselves_and_may_be_optional() -> None:
    specs = stain_channels(optional=(5, 6))
    assert match_channels(specs, list(STAINS)).sources == (0, 1, 2, 3, 4, 5)
    assert [spec.required for spec in specs] == [True] * 4 + [False] * 2


def test_real_sites(real_data: Path) -> None:
    sites = find_images(real_data / "rxrx1").named
    assert len(sites) == 24
    assert {len(site.files) for site in sites} == {4, 6}
    image = cc.read_image(real_data / "rxrx1/images/U2OS-01/Plate3/B02_s2_w2.png")
    assert (image.shape, image.dtype) == ((4, 512, 512), np.uint8)
    assert image.metadata["cell_type"] == "U2OS"
    assert image.metadata["sirna_id"] == 1138
    assert image.metadata["missing_channels"] == ["w5 MitoTracker", "w6 WGA"]
