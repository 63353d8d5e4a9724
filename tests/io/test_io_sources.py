from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cellclf.errors import ImageError, InputError, NoImagesError, UnreadableImageError
from napari_cellclf.io.sources import collect_sources

MakeSite = Callable[..., Path]
EMBRYO = "Stage(060)-20230811-Cycle00-embryo03-3.tif"


def image(path: Path, shape: tuple[int, ...] = (5, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.ones(shape, np.uint8), photometric="minisblack")
    return path


def test_files_of_one_site_are_one_image(make_site: MakeSite) -> None:
    plate = make_site(channels=(1, 2, 3, 4))
    sources = collect_sources([plate / "B02_s1_w3.png", str(plate / "B02_s1_w1.png")])
    assert [source.id for source in sources] == [str(plate / "B02_s1_w1.png")]
    assert sources[0].read().shape == (4, 6, 6)
    assert sources[0].metadata == {
        "site_id": "HUVEC-01_1_B02_1",
        "well_id": "HUVEC-01_1_B02",
        "experiment": "HUVEC-01",
        "plate": 1,
        "well": "B02",
        "site": 1,
        "missing_channels": ["w5 MitoTracker", "w6 WGA"],
    }


@pytest.mark.parametrize("folder", ["", "images", "images/HUVEC-01", "images/HUVEC-01/Plate1"])
def test_rxrx1_folders_are_sites(make_site: MakeSite, tmp_path: Path, folder: str) -> None:
    make_site("images/HUVEC-01/Plate1", well="B02")
    make_site("images/HUVEC-01/Plate1", well="B03")
    sources = collect_sources([tmp_path / folder])
    assert [source.metadata["well"] for source in sources] == ["B02", "B03"]


def test_sites_deeper_than_usual_are_sites_too(make_site: MakeSite, tmp_path: Path) -> None:
    make_site("a/b/c/d/e/f/HUVEC-01/Plate1")
    sources = collect_sources([tmp_path])
    assert len(sources) == 1
    assert sources[0].read().shape == (6, 6, 6)


def test_a_folder_is_searched_without_hidden_files(tmp_path: Path) -> None:
    image(tmp_path / "b" / "x.tif")
    image(tmp_path / "b" / "X.TIFF")
    image(tmp_path / "a" / EMBRYO)
    image(tmp_path / "b" / "x-checkpoint.tif")
    image(tmp_path / "a" / "._x.tif")
    image(tmp_path / "a" / ".ipynb_checkpoints" / EMBRYO)
    (tmp_path / "a" / "notes.txt").touch()
    sources = collect_sources([tmp_path])
    found = [str(Path(source.id).relative_to(tmp_path)) for source in sources]
    assert found == [f"a/{EMBRYO}", "b/X.TIFF", "b/x.tif"]
    assert sources[0].metadata["minute"] == 60
    assert sources[0].metadata["group"] == "20230811-Cycle00-embryo03"


def test_several_planes_are_one_source(tmp_path: Path) -> None:
    sources = collect_sources([image(tmp_path / "x.tif", (4, 5, 7))])
    assert len(sources) == 1
    assert sources[0].read().leading_axes == "Q"


def test_every_image_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "x.tif")
    monkeypatch.chdir(tmp_path)
    assert [source.id for source in collect_sources(["x.tif", tmp_path, "x.tif"])] == ["x.tif"]


def test_a_table_names_paths_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "images" / "a.tif")
    image(tmp_path / "images" / EMBRYO)
    table = tmp_path / "table.csv"
    table.write_text(
        "\ufeffwell,path,dose,code,minute\n"
        "B02,images/a.tif,0.5,007,\n"
        f'"B,03","images/{EMBRYO}",-2,x,\n'
        ",,,,\n"
        "B04,missing.tif,1,,9\n",
        encoding="utf-8",
    )
    monkeypatch.chdir("/")
    sources = collect_sources([table])
    assert sources[0].metadata == {"well": "B02", "dose": "0.5", "code": "007"}
    assert sources[1].metadata["well"] == "B,03"
    assert sources[1].metadata["dose"] == "-2"
    assert sources[1].metadata["minute"] == 60
    assert sources[2].metadata == {"well": "B04", "dose": "1", "minute": "9"}
    assert sources[0].read().shape == (5, 7)
    with pytest.raises(UnreadableImageError, match="there is no such file"):
        sources[2].read()


@pytest.mark.parametrize("content", [b"file\na.tif\n", b"", b"\xff\xfe\x00\xff"])
def test_a_table_without_paths_is_refused(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(content)
    with pytest.raises(InputError, match=r"table\.csv"):
        collect_sources([table])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("https://example.org/x.tif", "URL"),
        ("s3://bucket/x.tif", "URL"),
        (f"{'x' * 300}.tif", "too long"),
        (f"{'x' * 300}/B02_s1_w1.png", "too long"),
    ],
)
def test_a_bad_row_of_a_table_is_one_bad_image(tmp_path: Path, row: str, says: str) -> None:
    image(tmp_path / "good.tif")
    table = tmp_path / "table.csv"
    table.write_text(f"path,dose\n{row},1\ngood.tif,2\n")
    bad, good = collect_sources([table])
    assert bad.id.endswith(row)
    assert bad.metadata["dose"] == "1"
    assert good.read().shape == (5, 7)
    with pytest.raises(ImageError, match=says):
        bad.read()


def test_a_row_that_may_not_be_looked_at_is_one_bad_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, naming: None) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("napari_cellclf.io.sources.named_image", refuse)
    (tmp_path / "table.csv").write_text("path\nx.tif\n")
    (bad,) = collect_sources([tmp_path / "table.csv"])
    with pytest.raises(
        UnreadableImageError, match=r"x\.tif .*Permission denied.*; correct its path"
    ):
        bad.read()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,name\na.tif,контроль\n".encode("cp1251"), "as CSV UTF-8"),
        ("path,name\na.tif,対照\n".encode("cp932"), "as CSV UTF-8"),
        (b"PK\x03\x04\x14\x00", "is a workbook, not a CSV table; save it .* as CSV UTF-8"),
        (b'path,name\n"a.tif,x\n', "cannot be read as a CSV table"),
    ],
)
def test_a_table_of_another_program_is_refused_with_a_remedy(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        collect_sources([tmp_path / "table.csv"])


@pytest.mark.parametrize("header", ["Path", "PATH", " path "])
def test_the_column_of_paths_may_be_spelt_otherwise(tmp_path: Path, header: str) -> None:
    image(tmp_path / "a.tif")
    (tmp_path / "table.csv").write_text(f"{header},well\na.tif,B02\n")
    (source,) = collect_sources([tmp_path / "table.csv"])
    assert source.metadata == {"well": "B02"}
    assert source.read().shape == (5, 7)


def test_an_image_named_by_a_way_round_is_there_once(tmp_path: Path) -> None:
    image(tmp_path / "a" / "x.tif")
    around = tmp_path / "a" / ".." / "a" / "x.tif"
    assert len(collect_sources([tmp_path / "a" / "x.tif", around])) == 1


def test_linked_folders_are_searched_and_circles_end(make_site: MakeSite, tmp_path: Path) -> None:
    plate = make_site("elsewhere/HUVEC-01/Plate1")
    image(tmp_path / "elsewhere" / "x.tif")
    wanted = tmp_path / "wanted"
    wanted.mkdir()
    (wanted / "link").symlink_to(tmp_path / "elsewhere")
    (plate / "circle").symlink_to(wanted)
    sources = collect_sources([wanted])
    assert sorted(Path(source.id).name for source in sources) == ["B02_s1_w1.png", "x.tif"]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match="no images were given"):
        collect_sources([])
    with pytest.raises(NoImagesError, match="does not exist"):
        collect_sources([tmp_path / "missing"])
    with pytest.raises(NoImagesError, match="holds no images"):
        collect_sources([tmp_path])
    tmp_path.joinpath("t.csv").write_text("path\n")
    with pytest.raises(NoImagesError, match="names no images"):
        collect_sources([tmp_path / "t.csv"])


def test_a_bad_file_fails_only_when_it_is_read(tmp_path: Path) -> None:
    tmp_path.joinpath("x.png").write_text("no image")
    sources = collect_sources([tmp_path])
    with pytest.raises(UnreadableImageError, match=r"x\.png"):
        sources[0].read()


def test_real_folders(real_data: Path) -> None:
    sources = collect_sources([real_data / "rxrx1" / "images"])
    assert len(sources) == 24
    assert {source.metadata["cell_type"] for source in sources} == {
        "HEPG2",
        "HUVEC",
        "RPE",
        "U2OS",
    }
    assert len(collect_sources([real_data / "blood"])) == 1600
